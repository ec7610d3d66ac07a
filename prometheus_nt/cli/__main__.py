"""`python -m prometheus_nt.cli` is `prometheus`."""

from prometheus_nt.cli import main

if __name__ == "__main__":
    main()
