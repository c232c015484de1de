"""Run the command line: `python -m raven_proxy`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="raven-proxy")
