"""Stack files to a typed, immutable Stack, or to complaints with places.

Pure: text and mappings in, values out. No kernel, clock, environment or disk may enter.
"""
