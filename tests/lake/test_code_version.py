"""Which code runs: by tag and commit, and whether two versions are one code."""

import subprocess
from pathlib import Path

import pytest
from packaging.version import Version

from lake import code_version as module
from lake.code_version import code_version, same_code, version_of

IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")


@pytest.mark.parametrize(
    ("described", "version"),
    [
        # As hatch-vcs (setuptools-scm 10, no-guess-dev) names wheels of such checkouts.
        ("v0.3.1-0-g1a2b3c4", "0.3.1"),
        ("v0.3.1-7-g1a2b3c4", "0.3.1.post1.dev7+g1a2b3c4"),
        ("v0.3.1-0-g1a2b3c4-dirty", "0.3.1.post1.dev0+g1a2b3c4.dirty"),
        # Without a tag the metadata say of what it is the development: 0.2.0.
        ("1a2b3c4", "0.2.0.dev0+g1a2b3c4"),
        ("1a2b3c4-dirty", "0.2.0.dev0+g1a2b3c4.dirty"),
        ("something else", "0.2.0.dev5+g0000000"),
    ],
)
def test_a_checkout_is_named_by_tag_and_commit(described: str, version: str) -> None:
    found = version_of(described, "0.2.0.dev5+g0000000")
    assert found == version
    assert str(Version(found)) == found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("0.3.1", "0.3.1", True),
        ("0.3.1", "0.3.2", False),
        ("0.3.1", "0.3.1.post1.dev1+g1a2b3c4", False),
        # A wheel without tags counts commits, and git shortens a commit as much as it may.
        ("0.2.0.dev101+g1a2b3c4d5", "0.2.0.dev0+g1a2b3c4", True),
        ("0.2.0.dev0+g1a2b3c4", "0.2.0.dev0+g1a2b3c5", False),
        # Changes that nobody committed are not the same code, not even twice.
        ("0.2.0.dev0+g1a2b3c4.dirty", "0.2.0.dev0+g1a2b3c4.dirty", False),
        ("0.2.0.dev1+g1a2b3c4.d20261130", "0.2.0.dev0+g1a2b3c4", False),
    ],
)
def test_one_code_is_one_release_or_one_clean_commit(one: str, other: str, same: bool) -> None:
    assert same_code(one, other) is same
    assert same_code(other, one) is same


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own, taken for Chainlake's."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("1\n")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    # A hook of another repository, which this one is not.
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *IDENTITY, "-C", folder, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin"},
    ).stdout.strip()


def test_git_is_asked_of_a_checkout(checkout: Path) -> None:
    asked = code_version.__wrapped__
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    assert asked().endswith(f"+g{commit}")
    git(checkout, "tag", "v1.2.3")
    assert asked() == "1.2.3"
    (checkout / "file").write_text("2\n")
    assert asked() == f"1.2.3.post1.dev0+g{commit}.dirty"
    git(checkout, "commit", "--quiet", "-a", "-m", "second")
    assert asked() == f"1.2.3.post1.dev1+g{git(checkout, 'rev-parse', '--short', 'HEAD')}"


def test_without_git_it_is_the_version_that_was_installed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source archive has no repository; a host may have no git."""
    asked = code_version.__wrapped__
    monkeypatch.setattr(module, "version", lambda name: f"0.9 of {name}")
    (checkout / ".git").rename(checkout / "elsewhere")
    assert asked() == "0.9 of chainlake"
    (checkout / "elsewhere").rename(checkout / ".git")
    monkeypatch.setenv("PATH", str(checkout))
    assert asked() == "0.9 of chainlake"
