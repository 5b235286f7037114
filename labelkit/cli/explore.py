"""`labelkit explore`: drag objects and see which priors learn them, in a page of this computer."""

import signal
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from labelkit.cli.output import plain_errors, say

Option = typer.Option
PORT = 8770


def explore(
    image: Annotated[
        Path | None, typer.Argument(help="A picture to lay the priors over; a fixed scene without.")
    ] = None,
    annotations: Annotated[
        Path | None, Option(help="COCO file with its boxes; without IMAGE its first picture that has boxes.")
    ] = None,
    run: Annotated[
        Path | None,
        Option(help="A run whose detector looks at the picture: its own priors, and the rules that ask a network."),
    ] = None,
    port: Annotated[int, Option(help="Where the page is served; the next free one if it is taken.")] = PORT,
    browser: Annotated[bool, Option(help="Open the page in a browser.")] = True,
    static: Annotated[
        Path | None, Option(metavar="OUT.html", help="Write one file that works without labelkit, and end.")
    ] = None,
) -> None:
    """Which priors learn which object? Drag objects in a page and watch the rules decide."""
    with plain_errors():
        if static is not None and run is not None:
            raise ValueError("--static writes a page without a network: leave --run out")
        from labelkit.explore.opening import from_files

        begun = from_files(image, annotations, None if run is None else _trained(run))
        for note in begun.notes:
            say(note)
        if static is not None:
            from labelkit.explore.page import static_page

            own = () if image is None and annotations is None else (begun.scene, begun.url)
            static.write_text(static_page(*own), encoding="utf-8")
            say(f"{static} opens in any browser")
            return
        serve(begun, port, browser)


def _trained(run: Path) -> Any:
    """The detector as the run left it, which is what `labelkit audit --run` looks at too."""
    from labelkit.training.folder import load_trained

    return load_trained(run, "last")


def serve(begun: Any, port: int = PORT, browser: bool = True) -> None:
    """What `labelkit.explore.opening` opened, until Ctrl-C or SIGTERM."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port must be from 1 to 65535, got {port}")
    from labelkit.explore.server import open_server

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        with open_server(begun, port) as server:
            print(server.address, flush=True)
            say("Ctrl-C ends it.")
            if browser:
                webbrowser.open(server.address)
            server.serve_forever()
    except KeyboardInterrupt:
        say("Ended.")
