"""The examples of a page of documentation, and one bash script that does what a reader would do.

`blocks` takes the code out of a Markdown page, `script` puts it together again, in the order of the
page, as if typed into one terminal.  By language:

    sh, bash    run as it is; a line that starts a server goes on in the background until the next
                one, or until the end of the page, and is waited for until it answers
    python      run as a program; with a title, only written to the file of that name
    toml        read as a configuration; written to the file in the title, or to config.toml
    json        read
    html        every address of the proxy in it is asked for
    none, text  output and pictures; no code

A comment before the block says what is different: `<!-- not run: reason -->`;
`<!-- fails: reason -->`, as each of its commands must then; or `<!-- run with: NAME=value -->`,
which sets variables for the rest of the page.

What is not as it stands on the page, all of it:
1. Ports of 127.0.0.1 are replaced by free ones.
2. `https://` hosts are reached through a proxy, `REMUXD_UPSTREAM__PROXY`, that leads all of them to
   the origin of the test; `proxy.open_stream` is told the same as the command line is.
3. curl fails where the answer is an error (its configuration file says so), so that the page does.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

__all__ = ["Block", "blocks", "script"]

NO_CODE = frozenset({"", "text"})
RUN = frozenset({"sh", "bash", "python", "toml", "json", "html"})
_MARK = re.compile(r"<!-- (not run|fails|run with): (.+?) -->", re.DOTALL)
_SERVER = re.compile(r"^(?:\w+=\S+(?:\s|\\\n)+)*(?:\S*/)?(?:remuxd serve|uvicorn)\b")
_COMMENT = re.compile(r"\s+#.*$")
_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d{4}\b|(?<=--port )\d{4}\b")
_ADDRESS = re.compile(r'"(http://127\.0\.0\.1:[^"]+)"')
_OPEN_STREAM = (
    "import functools, proxy, proxy.config; proxy.open_stream = functools.partial("
    "proxy.open_stream, config=proxy.config.Config.load())\n"
)
_PRELUDE = """\
set -eEuo pipefail
at=0 server=
trap 'echo "the block at line $at failed: $BASH_COMMAND" >&2; cat server.log >&2' ERR
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }' EXIT
stop_server() { [ -z "$server" ] || { kill "$server"; wait "$server" || true; server=; }; }
until_up() {
  until curl -s -o answer http://127.0.0.1:$1/healthz || [ $? = 22 ]; do
    kill -0 "$server"; sleep 0.05
  done
}
touch server.log
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of code of a page."""

    line: int  # of the page, where it begins
    language: str
    title: str
    text: str
    not_run: str = ""  # the reason
    fails: str = ""  # the reason
    run_with: str = ""  # assignments, as a shell takes them

    @property
    def is_code(self) -> bool:
        return self.language not in NO_CODE


def blocks(page: str) -> list[Block]:
    """Take the blocks of code out of a page."""
    return list(_blocks(page))


def _blocks(page: str) -> Iterator[Block]:
    mark: re.Match[str] | None = None
    for token in MarkdownIt().parse(page):
        if token.type == "html_block":
            mark = _MARK.search(token.content)
        elif token.type in {"fence", "code_block"}:
            language, _, rest = token.info.strip().partition(" ")
            title = re.search(r'title="([^"]+)"', rest)
            said = {mark[1]: " ".join(mark[2].split())} if mark else {}
            yield Block(
                line=token.map[0] + 1 if token.map else 0,
                language=language if token.type == "fence" else "an indented block",
                title=title[1] if title else "",
                text=token.content,
                not_run=said.get("not run", ""),
                fails=said.get("fails", ""),
                run_with=said.get("run with", ""),
            )
        if token.type != "html_block" and token.level == 0:
            mark = None


def script(page: Iterable[Block], port: Callable[[str], int]) -> str:
    """Put together what a page says to do; `port` gives the one to use instead of another."""
    steps = [_PRELUDE]
    for block in page:
        if not block.is_code or block.not_run:
            continue
        if block.language not in RUN:
            raise ValueError(f"line {block.line}: {block.language} is neither run nor marked")
        if block.run_with:
            steps.append(f"export {block.run_with}\n")
        text = _PORT.sub(lambda match: str(port(match[0])), block.text)
        steps.append(f"at={block.line}\n{_step(block, text, port)}\n")
    return "\n".join(steps)


def _step(block: Block, text: str, port: Callable[[str], int]) -> str:
    match block.language:
        case "sh" | "bash":
            lines = _lines(text)
            if block.fails:
                return "\n".join(f"if {line}\nthen false; fi" for line in lines)
            return "\n".join(_line(line, port) for line in lines)
        case "python":
            return _python(block.title, text)
        case "toml":
            name = shlex.quote(block.title or "config.toml")
            load = "import sys; from proxy.config import Config; Config.load(sys.argv[1])"
            return f"{_written(name, text)}\npython -c '{load}' {name}"
        case "json":
            return f"python -m json.tool >answer {_here(text)}"
        case _:
            addresses = _ADDRESS.findall(text)
            assert addresses, f"line {block.line}: no address of the proxy is in it"
            return "\n".join(f"curl -o answer {shlex.quote(one)}" for one in addresses)


def _lines(text: str) -> list[str]:
    """The commands of a block: a line each, unless it goes on behind a backslash."""
    return re.findall(r"(?:[^\n]*\\\n)*[^\n]+", text)


def _line(line: str, port: Callable[[str], int]) -> str:
    if not _SERVER.match(line):
        return line
    told = re.search(r"--port (\d+)", line)
    number = int(told[1]) if told else port("8000" if "uvicorn" in line else "8080")
    return (
        f"stop_server\n{_COMMENT.sub('', line)} >>server.log 2>&1 &\nserver=$!\nuntil_up {number}"
    )


def _python(title: str, text: str) -> str:
    if "open_stream" in text:
        text = _OPEN_STREAM + text
    return _written(shlex.quote(title), text) if title else f"python - {_here(text)}"


def _written(name: str, text: str) -> str:
    return f'mkdir -p "$(dirname {name})"\ncat >{name} {_here(text)}'


def _here(text: str) -> str:
    return f"<<'END_OF_BLOCK'\n{text}END_OF_BLOCK"
