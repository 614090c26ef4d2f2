"""`sbx build`: images from Dockerfiles. docs/build.md tells how the parts work together."""
