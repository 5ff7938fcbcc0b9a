"""Readers of the files that other programs are configured with. Pure: text in, what it says out, with line numbers.

None of them fails on a text, whatever it is: what a reader does not understand it names as a `Doubt`, and goes on.
"""
