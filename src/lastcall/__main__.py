"""`python -m lastcall` is `lastcall`."""

from lastcall.cli import main

main(prog_name="lastcall")
