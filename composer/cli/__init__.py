"""The command line: options in, one call, one renderer. No decision about a stack is made here."""
