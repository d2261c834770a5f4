"""`negguide demo`: the page in a browser."""

from __future__ import annotations

import os
import socket
from typing import Annotated

import typer

from negguide.commands.terminal import one_line, quiet_libraries

MISSING = 'the demo needs gradio, which is not installed: pip install "negguide[demo]"'
SAFE = "Who may do what"

Model = Annotated[str, typer.Option(help="Model of the first screen; toybox is bundled.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Clip = Annotated[str | None, typer.Option(help="open_clip model that judges pictures of models that are not bundled.")]
Preview = Annotated[
    str | None, typer.Option(help="Tiny autoencoder for live previews of those, e.g. madebyollin/taesd.", metavar="ID")
]
Watchers = Annotated[
    list[str] | None,
    typer.Option("--watcher", help="Who looks at forming pictures: toybox, vqa:MODEL, chat:MODEL; repeat."),
]
Host = Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.", rich_help_panel=SAFE)]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Left out: 7860 or the next free one.", rich_help_panel=SAFE)
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-models",
        metavar="NAME",
        help="Let people load this too: org/name, a folder (or one of folders), or [bold]hub[/bold] for any name; repeat.",
        rich_help_panel=SAFE,
    ),
]
Auth = Annotated[
    str | None,
    typer.Option(
        metavar="USER:PASSWORD",
        envvar="NEGGUIDE_DEMO_AUTH",
        help="Ask for a login; several with commas. Better in the variable than in the command.",
        rich_help_panel=SAFE,
    ),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="Name that the server is reached by, such as demo.example.org; needed behind a proxy, against DNS rebinding. "
        "Addresses and localhost always work; repeat; * for any.",
        rich_help_panel=SAFE,
    ),
]
Waiting = Annotated[int, typer.Option(min=1, help="Requests that may wait at once.", rich_help_panel=SAFE)]
Each = Annotated[int, typer.Option(min=1, help="Of those, most from one person.", rich_help_panel=SAFE)]
Pictures = Annotated[
    int, typer.Option("--max-pictures", min=1, help="Most pictures of one request.", rich_help_panel=SAFE)
]
Methods = Annotated[
    int, typer.Option("--max-methods", min=1, help="Most methods of one request, beside plain.", rich_help_panel=SAFE)
]
Steps = Annotated[
    int,
    typer.Option(
        "--max-steps",
        min=1,
        help="Most steps that people may ask for instead of the model's own.",
        rich_help_panel=SAFE,
    ),
]
Side = Annotated[
    int,
    typer.Option("--max-side", min=8, help="Most pixels a side that they may ask for, likewise.", rich_help_panel=SAFE),
]
Upload = Annotated[float, typer.Option("--max-upload", min=0.1, help="Largest file, in MiB.", rich_help_panel=SAFE)]
Seconds = Annotated[
    float, typer.Option("--max-seconds", min=1, help="Longest run of one request.", rich_help_panel=SAFE)
]
Mcp = Annotated[bool, typer.Option("--mcp", help="Offer the API to agents as MCP tools too.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]


def demo(
    model: Model = "toybox",
    device: Device = "auto",
    clip: Clip = None,
    preview: Preview = None,
    watcher: Watchers = None,
    host: Host = "127.0.0.1",
    port: Port = None,
    allow_models: Allow = None,
    allow_host: Hosts = None,
    auth: Auth = None,
    waiting: Waiting = 60,
    each: Each = 24,
    max_pictures: Pictures = 8,
    max_methods: Methods = 6,
    max_steps: Steps = 100,
    max_side: Side = 1536,
    max_upload: Upload = 8.0,
    max_seconds: Seconds = 600.0,
    mcp: Mcp = False,
    open_page: Open = False,
) -> None:
    """Open a page where you see what each kind of negative does; an API comes with it.

    negguide demo
    negguide demo --allow-models org/name --preview madebyollin/taesd
    negguide demo --host 0.0.0.0 --auth me:secret
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise typer.TyperException(MISSING) from error
    del gradio
    from negguide.demo.options import Options
    from negguide.demo.server import build, serve, warm

    quiet_libraries()
    with one_line():
        logins = _logins(auth)
        _check_host(host)
        options = Options(
            model=model,
            allow_models=tuple(allow_models or ()),
            device=device,
            clip=clip,
            preview=preview,
            watchers=tuple(watcher or ("toybox",)),
            waiting=waiting,
            each=each,
            pictures=max_pictures,
            methods=max_methods,
            steps=max_steps,
            side=max_side,
            upload=int(max_upload * 2**20),
            seconds=max_seconds,
            hosts=tuple(allow_host or ()),
        )
        blocks, engine = build(options)
    if host not in ("127.0.0.1", "localhost", "::1") and logins is None:
        typer.echo("negguide: anybody who reaches this machine can use the demo; --auth asks for a login", err=True)
    warm(engine)
    try:
        serve(blocks, engine, server_name=host, server_port=port, logins=logins or (), agents=mcp, inbrowser=open_page)
    except OSError as error:
        raise typer.TyperException(str(error)) from error


def _check_host(host: str) -> None:
    """`ValueError` for an address that this machine does not have."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.bind(address)
    except OSError as error:
        raise ValueError(f"cannot listen at {host!r}: {error.strerror or error}; try 127.0.0.1 or 0.0.0.0") from error


def _logins(text: str | None) -> list[tuple[str, str]] | None:
    """`"me:secret,you:other"` -> pairs. `ValueError` for what is none; the text is not repeated, it is a secret."""
    if not text:
        return None
    pairs = [tuple(part.strip().split(":", 1)) for part in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError("--auth is written USER:PASSWORD, several with commas between")
    return [(pair[0], pair[1]) for pair in pairs]
