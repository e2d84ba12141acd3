"""Many runs that differ in a few keys: their names, their table, pictures."""
