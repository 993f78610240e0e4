"""`python -m trio_rt` is `trio-rt`."""

from trio_rt.cli import main

if __name__ == "__main__":
    main(prog_name="trio-rt")
