"""Whether verdicts mean what they say: a search for false ones, with exact expectations as the truth.

``python -m soundness search``, with ``tests`` on Python's path, prints its table.
"""
