"""What a run looks like: pictures, and one page that holds all of it."""
