"""Many runs that differ in a few keys: their names and their table."""
