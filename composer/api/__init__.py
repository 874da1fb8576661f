"""What commands and programs ask of stacks: files found and loaded, supervisors asked, containers chosen.

The logic of the command line, and the classes `Stack` and `AsyncStack` on top of it. Nothing here prints,
asks a terminal or knows a flag; errors are those of `composer.errors`.
"""
