"""The process that thinks for one running stack: observes, steps, executes, answers. Asynchronous (anyio)."""
