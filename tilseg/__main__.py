"""`python -m tilseg` is the `tilseg` command."""

from tilseg.cli.main import main

main()
