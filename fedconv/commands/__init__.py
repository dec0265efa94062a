"""What the commands do, one module each; imported by ``fedconv.cli`` when a command is called."""


class Interrupted(Exception):
    """Ctrl-C, with the sentence that tells what is kept."""


def version() -> str:
    """The installed version of fedconv, or a word that it runs from a source tree that is not installed."""
    from importlib import metadata

    try:
        return metadata.version("fedconv")
    except metadata.PackageNotFoundError:
        return "(not installed)"
