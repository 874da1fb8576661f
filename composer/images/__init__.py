"""Images: references, registries, the content store, layers, and what a container's root is made of."""
