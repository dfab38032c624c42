"""The command line: parse the arguments, call a function, print the result."""
