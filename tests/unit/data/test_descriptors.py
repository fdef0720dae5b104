"""Every key of a descriptor is checked, in one line that names the file, the key and what is allowed."""

from datetime import UTC, datetime

import pytest

from components.config import InputError
from components.data.descriptors import S3, Combined, Drawn, HuggingFace, Kaggle, Part, Url, read_descriptor

SHA, COMMIT = "0123456789abcdef" * 4, "0123456789" * 4
DRAWN = Drawn(count=3, size=32, seed=0)
GOOD = {
    "{kind: drawn, count: 3, size: 32, seed: 0}": DRAWN,
    f"{{kind: url, url: 'https://example.org/a.zip', sha256: '{SHA}'}}": Url(
        url="https://example.org/a.zip", sha256=SHA
    ),
    f"{{kind: url, url: 'http://[::1]:8000/a', sha256: '{SHA}', bytes: 5}}": Url(
        url="http://[::1]:8000/a", sha256=SHA, bytes=5
    ),
    "{kind: s3, uri: 's3://art/a.zip', version: 'x1'}": S3(uri="s3://art/a.zip", version="x1"),
    f"{{kind: s3, uri: 's3://art/a.zip', sha256: '{SHA}', endpoint: 'http://127.0.0.1:9000'}}": S3(
        uri="s3://art/a.zip", sha256=SHA, endpoint="http://127.0.0.1:9000"
    ),
    "{kind: s3, uri: 's3://art/', as_of: 2026-01-31T12:00:00Z}": S3(
        uri="s3://art/", as_of=datetime(2026, 1, 31, 12, tzinfo=UTC)
    ),
    "{kind: kaggle, dataset: owner/a-set, version: 3}": Kaggle(dataset="owner/a-set", version=3),
    f"{{kind: huggingface, repo: owner/a.set, revision: '{COMMIT}', folder: data/x}}": HuggingFace(
        repo="owner/a.set", revision=COMMIT, folder="data/x"
    ),
    "{kind: combined, parts: [{kind: drawn, count: 3, size: 32, seed: 0}, {path: a/b, label: fire dragon}]}": Combined(
        parts=(Part(source=DRAWN), Part(source="a/b", label="fire dragon"))
    ),
}
BAD = [
    ("kind: paintings", "kind is 'paintings'; allowed: combined, drawn, huggingface, kaggle, s3, url"),
    ("kind: [drawn]", "kind is ['drawn']; allowed: combined, drawn"),
    ("just words", "kind is None; allowed: combined, drawn"),
    ("kind: {", "is not a YAML descriptor"),
    ("kind: \x07", "is not a YAML descriptor"),
    ("kind: drawn\ncount: 3\nsize: 32", "missing key seed; allowed: a whole number, 0 to"),
    ("kind: drawn\ncount: 3\nsize: 32\nseed: 0\ncolour: red", "unknown key colour; allowed: count, size, seed"),
    ("kind: drawn\ncount: 3\nsize: 32\nseed: 0\n1: 2", "unknown key 1; allowed: count, size, seed"),
    ("kind: drawn\ncount: 0\nsize: 32\nseed: 0", "count is 0; allowed: a whole number, 1 to"),
    ("kind: drawn\ncount: 3\nsize: big\nseed: 0", "size is 'big'; allowed: a whole number, 8 to 1024"),
    ("kind: drawn\ncount: 3\nsize: 32\nseed: true", "seed is True"),
    ("{kind: url, url: 'https://example.org/a'}", "missing key sha256; allowed: 64 hexadecimal digits"),
    (f"{{kind: url, url: 'https://example.org/a', sha256: {SHA.upper()}}}", "in lower case"),
    (f"{{kind: url, url: 'https://example.org/a', sha256: {SHA}, bytes: -1}}", "bytes is -1"),
    *(
        (f"{{kind: url, url: '{url}', sha256: '{SHA}'}}", "allowed: an http:// or https:// address")
        for url in (
            "ftp://a/b",
            "/etc/passwd",
            "http://",
            "http://a:b/c",
            "http://[::1/a",
            "http://a b/c",
            "file:///x",
            "http://me:pw@a/b",
        )
    ),
    ("{kind: s3, uri: 's3://art/a.zip'}", "one key; allowed with it: version, sha256 or both, and no as_of"),
    ("{kind: s3, uri: 's3://art/a', version: x, as_of: 2026-01-31T12:00:00Z}", "one key; allowed with it"),
    ("{kind: s3, uri: 's3://art/a', version: 'null'}", "not 'null', which can be overwritten"),
    ("{kind: s3, uri: 's3://art/a', version: 7}", "version is 7; allowed: the id of a version, as text"),
    ("{kind: s3, uri: 's3://art/x/'}", "a prefix; allowed with it: as_of"),
    (f"{{kind: s3, uri: 's3://art/x/', as_of: 2026-01-31T12:00:00Z, sha256: {SHA}}}", "a prefix; allowed with it"),
    ("{kind: s3, uri: 's3://art/x/', as_of: 2999-01-31T12:00:00Z}", "allowed: a time that has passed"),
    ("{kind: s3, uri: 's3://art/x/', as_of: 2026-01-31T12:00:00}", "allowed: a time in UTC"),
    ("{kind: s3, uri: 's3://art/x/', as_of: 2026-01-31T12:00:00+02:00}", "allowed: a time in UTC"),
    ("{kind: s3, uri: 's3://art/x/', as_of: 2026-01-31}", "allowed: a time in UTC"),
    ("{kind: s3, uri: 'https://art/a'}", "allowed: s3://bucket/key"),
    ("{kind: s3, uri: 's3://art', version: x}", "allowed: s3://bucket/key"),
    ("{kind: s3, uri: 's3://art/a', version: x, endpoint: '127.0.0.1:9000'}", "endpoint is '127.0.0.1:9000'"),
    ("{kind: kaggle, dataset: a-set, version: 3}", "dataset is 'a-set'; allowed: owner/name"),
    ("{kind: kaggle, dataset: owner/a-set}", "missing key version"),
    ("{kind: kaggle, dataset: owner/a-set, version: '3'}", "version is '3'; allowed: a whole number, at least 1"),
    ("{kind: huggingface, repo: owner/a-set, revision: main}", "revision is 'main'; allowed: a commit"),
    (f"{{kind: huggingface, repo: owner/a-set, revision: '{COMMIT}', folder: ../x}}", "folder is '../x'"),
    ("{kind: combined, parts: []}", "parts is []; allowed: a list of at least one part"),
    ("{kind: combined, parts: [a.zip]}", "parts[0] is 'a.zip'; allowed: a mapping with a kind or a path"),
    ("{kind: combined, parts: [{label: x}]}", "allowed: a mapping with a kind or a path"),
    ("{kind: combined, parts: [{path: a, kind: drawn}]}", "allowed: a mapping with a kind or a path"),
    ("{kind: combined, parts: [{path: a}, {path: a, count: 3}]}", "parts[1]: unknown key count; allowed: path"),
    ("{kind: combined, parts: [{kind: drawn, count: 3}]}", "parts[0]: missing key size"),
    ("{kind: combined, parts: [{kind: combined, parts: []}]}", "parts[0]: kind is 'combined'; allowed: drawn,"),
    ("{kind: combined, parts: [{path: a, label: x/y}]}", "label is 'x/y'; allowed: a name without '/'"),
    ("{kind: combined, parts: [{path: a, label: .x}]}", "label is '.x'"),
    ("{kind: combined, parts: [{path: a, label: ''}]}", "label is ''"),
    ("{kind: combined, parts: [{path: a, label: 7}]}", "label is 7"),
]


@pytest.mark.parametrize("text", GOOD)
def test_a_descriptor_is_what_it_says(tmp_path, text):
    (tmp_path / "set.yaml").write_text(text)
    assert read_descriptor(tmp_path / "set.yaml") == GOOD[text]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_wrong_descriptor_is_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_descriptor(tmp_path / "wrong.yaml")
    assert words in str(caught.value)
    assert "wrong.yaml'" in str(caught.value)
    assert "\n" not in str(caught.value)
