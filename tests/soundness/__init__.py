"""Whether verdicts mean what they say: confidence limits against known laws, and verdicts against exact expectations.

``python -m soundness limits`` and ``python -m soundness search``, with ``tests`` on Python's path, print the tables.
"""
