"""`python -m hedgelock.cli` is `hedgelock`."""

from hedgelock.cli import main

main()
