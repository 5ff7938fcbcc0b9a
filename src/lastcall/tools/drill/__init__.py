"""The drill: a server under load, restarted in every way that an operator may restart it, and what was lost.

docs/DRILL.md is its manual.
"""
