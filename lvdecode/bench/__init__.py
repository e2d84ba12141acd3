"""How fast it is: beside a peer, a plain decoder and the machine's limit."""
