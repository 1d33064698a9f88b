"""postern.conf(5): each example is right as it stands, and together they use every option that there is."""
import re

import harness
import peers
import pytest
from test_conf import check     # noqa: F401 (fixture)

PAGE = (harness.ROOT / "man/postern.conf.5").read_text()
OPTIONS = (harness.ROOT / "lib/conf_options.def").read_text()
BLOCKS = [text.replace("\\e", "\\") for text in re.findall(r"^\.Bd -literal.*\n((?:[^.\n].*\n|\n)+)\.Ed", PAGE, re.M)]
EXAMPLES = [text for text in BLOCKS if not text.startswith("postern: ")]        # which is how a mistake looks
SERVER = 'server "some" { host = "smtp.example.com" }\n'


def title(example):
    return next(line for line in example.splitlines() if line).strip(" {")


def available():
    """{(section, option)} of conf_options.def, the top level is ""."""
    names = dict(re.findall(r'^SECTION\((\w+), "([^"]*)"', OPTIONS, re.M))
    return {(names[section], option) for section, option, rest in
            re.findall(r'^OPTION\((\w+), "([^"]+)",((?:[^\n]|\n )*)', OPTIONS, re.M) if re.search(r"\bNOW\b", rest)}


def used(text):
    """Likewise, what a configuration sets."""
    found, sections = set(), [""]
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|#[^\n]*|[{}=,]|[^\s{}=,"#]+', text)
    tokens = [token for token in tokens if token[0] != "#"]
    for at, token in enumerate(tokens):
        before, after = tokens[at - 1] if at else "", tokens[at + 1] if at + 1 < len(tokens) else ""
        if token == "{" and before == "=":
            sections.append(None)               # a list
        elif token == "{":
            sections.append(tokens[at - 2] if before[0] == '"' else before)
        elif token == "}":
            sections.pop()
        elif after == "=":
            found.add((sections[-1], token))
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What a name in an example may stand for: certificates, their key, and a line of text for everything else."""
    folder = tmp_path_factory.mktemp("files")
    ca, cert, key = peers.make_pki(folder)
    anchor = folder / "anchor"
    anchor.write_text("example. IN DS 1 13 2 " + "00" * 32 + "\n")
    secret = folder / "secret"
    secret.write_text("some secret\n")
    rules = folder / "rules"
    rules.write_text("# none\n")
    return {"tls-ca-file": ca, "tls-client-cert": cert, "tls-client-key": key, "password-file": secret,
            "client-secret-file": secret, "refresh-token-file": secret, "limits-store-password-file": secret,
            "trust-anchor-file": anchor, "reply-rules": rules}


@pytest.mark.parametrize("example", EXAMPLES, ids=title)
def test_example_is_right(check, files, tmp_path, example):  # noqa: F811
    """On a host where the files that it names are."""
    for option, name in re.findall(r'([a-z-]+)\s*= "(?:/var/lib/postern/)?([^"/]+\.[a-z]+)"', example):
        if option in files:
            (tmp_path / name).write_bytes(files[option].read_bytes())
            (tmp_path / name).chmod(0o600)
    check.file.touch(mode=0o600)
    text = example.replace('"/var/spool/postern"', '"spool"').replace('"/var/log', f'"{tmp_path}').replace('"/var/lib/postern/', '"')
    spool = "" if re.search("^spool", text, re.M) else 'spool = "spool"\n'
    assert check(spool + text + ("" if 'server "' in text else SERVER)) == (0, [])


def test_examples_show_every_option():
    assert len(EXAMPLES) > 10
    missing = available() - set().union(*map(used, EXAMPLES))
    assert not missing, f"no example in postern.conf(5) uses {sorted(missing)}"
