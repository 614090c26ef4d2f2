"""Benchmarks: sbx beside its peers, in turn, in one run. `make bench`, `python -m bench.run -h`.

run           the command line: which parts, text or JSON
pairs         how things are timed: in turn, medians
ground        a directory of its own with the image, and what each peer needs
python_image  an image for one of the parts
startup, throughput, from_python, python_start, memory    one part each
"""
