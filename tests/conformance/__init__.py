"""The conformance suite of the Open Container Initiative, run against our runtime and others beside it."""
