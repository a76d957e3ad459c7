"""The server: parse, call one function, show."""
