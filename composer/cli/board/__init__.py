"""The full-screen view of a stack, `composer ui`.

    reading   what a stack is like now, and how it was in the last minute
    tail      the last lines of logs, as they come
    cells     numbers and states as coloured text (pure)
    app       the screen, with textual; imported by nobody else

Readers are those of `ps`, `stats`, `logs` and `events`. They block, so each has a thread; the screen looks
ten times a second at what they have left for it. A stack that ends, comes back, or was never there is not
special.
"""
