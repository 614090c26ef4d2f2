"""Images: references, the store on disk, layers, archives and registries.

reference                     what a name means
config  descriptor  platform  the OCI documents as frozen data
layout  content               the store's files: index.json, blobs, what is being made
compression  tar_stream       bytes of a layer to entries
apply_layer  layers           entries to a directory, once per diff_id
store                         what the rest of sbx asks for
"""
