"""The Python on the pages runs as it stands and prints what it says, and their links lead somewhere.

A page is one session, from top to bottom. A block that imports one of `OPTIONAL` which is not installed, or
CuPy where there is no device, is left out, and so are later blocks that need a name which it would have made;
the page's test then says so and counts as skipped. A page that begins with CuPy needs a device altogether.
"""

import ast
import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

import gpuprop

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: Sphinx makes the pages of these folders, and checks links to them.
MADE = [DOCS / "_build", DOCS / "api", DOCS / "auto_gallery", DOCS / "images" / "rooms.svg"]
PAGES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if not any(map(p.is_relative_to, MADE)))]
#: Pages whose blocks take their time for it.
MUCH_IS_COMPILED = ("windows_and_rows", "complex_fields", "groups")
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
OPTIONAL = {"chainer", "cupy", "jax", "keras", "mpi4py", "optax", "tensorflow", "torch"}

FENCE = re.compile(r"^( *)(```+|~~~+|:::+)(.*?)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMISE = re.compile(r"^ *print\(.*\)(?:  # (.*)|((?:\n *# .*)+))$", re.MULTILINE)
LINK = re.compile(r"\]\(<?((?!\w+:)[^)\s>]+)>?\)|^\[[^\]]+\]: +((?!\w+:)\S+)", re.MULTILINE)


def blocks(text):
    """The code of each block, at the lines where it stands on the page."""
    return ["\n" * text.count("\n", 0, match.start(1)) + match[1] for match in BLOCK.finditer(text)]


def imports(tree):
    """The libraries that a block imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def makes(tree):
    """The names that a block binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


def why_not(library):
    """Why a block that imports `library` cannot run here."""
    if library in OPTIONAL and importlib.util.find_spec(library) is None:
        return f"{library} is not installed"
    if library == "cupy":
        try:
            gpuprop.select_backend("gpu")
        except gpuprop.DeviceUnavailableError:
            return "no CUDA device"
    return None


def run(text, name):
    """Run the blocks of a page; why some were left out, and how many were."""
    session, lost, reasons, left_out = {"__name__": "__main__"}, set(), set(), 0
    for block in blocks(text):
        tree = ast.parse(block, name)
        missing = set(map(why_not, imports(tree))) - {None}
        printed = io.StringIO()
        try:
            if not missing:
                with contextlib.redirect_stdout(printed):
                    exec(compile(tree, name, "exec"), session)
        except NameError as error:
            if error.name not in lost:
                raise
            missing = reasons
        if missing:
            left_out += 1
            reasons |= missing
            lost |= set(makes(tree))
            for each in lost:  # what it was before is not what a later block means
                session.pop(each, None)
            continue
        lost -= set(makes(tree))
        lines = iter(printed.getvalue().splitlines())
        for same_line, below in PROMISE.findall(block):
            for promise in [same_line] if same_line else re.findall(r"# (.*)", below):
                assert promise in lines, f"{name}: {promise!r} is not what is printed: {printed.getvalue()}"
    return sorted(reasons), left_out


def begins_with_cupy(text):
    return any("cupy" in imports(ast.parse(block)) for block in blocks(text)[:1])


@pytest.mark.auto
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            marks=[pytest.mark.gpu] * begins_with_cupy(page.read_text("utf-8"))
            + [pytest.mark.slow] * (page.stem in MUCH_IS_COMPILED),
        )
        for page in PAGES
    ],
    ids=NAMES,
)
def test_every_block_of_a_page_in_turn(page, tmp_path, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)
    for variable, value in (("MPLBACKEND", "agg"), ("KERAS_BACKEND", "torch"), ("KERAS_HOME", str(tmp_path))):
        monkeypatch.setenv(variable, value)
    text = page.read_text("utf-8")
    reasons, left_out = run(text, str(page))
    if left_out:
        name = page.relative_to(ROOT)
        pytest.skip(f"{name}: {left_out} of {len(blocks(text))} blocks left out: {', '.join(reasons)}")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_all_python_of_a_page_is_run(page):
    text = page.read_text("utf-8")
    assert len(re.findall(r"(?:```|~~~|:::) *(?:py|{code(?:-block)?} *py|{code-cell})", text)) == len(
        blocks(text)
    )


def test_there_is_something_to_run():
    assert sum(len(blocks(page.read_text("utf-8"))) for page in PAGES) >= 10


def page_of(*codes):
    return "\n".join(f"Words.\n\n```python\n{code}\n```\n" for code in codes)


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        (["1 / 0"], ZeroDivisionError),
        (["x = 1", "assert x == 2"], AssertionError),
        (["print(1)  # 2"], AssertionError),
        (["print(1)\n# 1\n# 2"], AssertionError),
        (["print(2)", "print(1)  # 2"], AssertionError),
        (["for i in range(2):\n    print(i)  # 3"], AssertionError),
        (["import there_is_no_such_library"], ModuleNotFoundError),
        (["print(nobody_made_this)"], NameError),
        (["import optax\na = 1", "print(b)"], NameError),
        (["import optax\na = 1", "a = 2", "assert a == 1"], AssertionError),
    ],
)
def test_a_page_that_is_wrong_fails(codes, error, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(error):
        run(page_of(*codes), "a page")


def test_what_needs_a_missing_library_is_left_out_and_no_more(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    codes = [
        "a = b = 1",
        "import optax\na = 2",
        "print(b)  # 1",
        "c = a",
        "print(c)",
        "c = 3",
        "print(c)  # 3",
    ]
    assert run(page_of(*codes), "a page") == (["optax is not installed"], 3)


def headings(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    lines = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in lines}


def leads_nowhere(page, text):
    """The relative links of a page that lead nowhere."""
    for link in LINK.findall(re.sub(r"`[^`\n]+`", "", FENCE.sub(r"\4", BLOCK.sub("", text)))):
        path, _, anchor = "".join(link).partition("#")
        target = (page.parent / path).resolve()
        if any(map(target.is_relative_to, MADE)):
            continue
        if (path and not target.exists()) or (
            anchor and anchor not in headings(target.read_text("utf-8") if path else text)
        ):
            yield "".join(link)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_a_page_links_to_is_there(page):
    assert list(leads_nowhere(page, page.read_text("utf-8"))) == []


def test_links_that_lead_nowhere_are_found():
    text = (
        "# A page\n## On `its` own: 2\n[a](README.md) [b](nowhere.md) [c](#on-its-own-2) [d](#nowhere)\n"
        "![e](nowhere.png) [f](README.md#nowhere) [g](https://example.org) [`h`](README.md#install)\n"
        ":::{note}\n[i](nowhere/)\n:::\n```python\na[0](1)\n```\n[j]: nowhere.txt\n"
    )
    wrong = ["nowhere.md", "#nowhere", "nowhere.png", "README.md#nowhere", "nowhere/", "nowhere.txt"]
    assert list(leads_nowhere(ROOT / "a page", text)) == wrong
