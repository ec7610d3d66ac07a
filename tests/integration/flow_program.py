"""Run `prometheus` as a process of its own, for a test that kills it."""

from prometheus_nt.cli import main

if __name__ == "__main__":
    main()
