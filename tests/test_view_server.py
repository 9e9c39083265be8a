"""The page's server lets in nobody but the page."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading

import pytest
from tiny import TILSEG, tree
from viewing import finished, get, serving

from tilseg.errors import UsageError
from tilseg.view.server import ViewServer


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def server(result):
    with serving(result) as server:
        yield server


PATHS = (
    "/",
    "/main.js",
    "/about.json",
    "/state.json",
    "/at.json?row=1&col=1",
    "/regions.json?by=area",
    "/region.json?label=1",
    "/tiles/image/0/0_0.png",
    "/tiles/mask/0/0_0.png?show=1",
)


@pytest.mark.parametrize("path", PATHS)
def test_everything_is_answered_with_the_cookie_and_nothing_without(server, path):
    status, headers, body = get(server, path)
    assert (status, len(body) > 0) == (200, True)
    assert headers["Cache-Control"] == "no-store"
    for cookie in ("", "tilseg=x", f"tilseg-{server.port}=x", server.cookie[:-1]):
        status, _, body = get(server, path, Cookie=cookie)
        assert (status, body[:3]) == (403, b"403")


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1", "localhost", "127.0.0.1:1", "[::1]:80", "0.0.0.0:80"]
)
@pytest.mark.parametrize("path", ["/", "/about.json", "/tiles/image/0/0_0.png"])
def test_another_host_is_refused_even_with_the_cookie(server, path, host):
    assert get(server, path, host=host)[0] == 403


def test_localhost_is_this_host(server):
    assert get(server, "/", host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}"])
def test_another_origin_is_refused(server, origin):
    assert get(server, "/about.json", Origin=origin.format(port=server.port))[0] == 403
    own = f"http://127.0.0.1:{server.port}"
    assert get(server, "/about.json", Origin=own)[0] == 200


def test_the_token_becomes_a_cookie_that_stays_here(server):
    path = f"/?token={server.token}"
    status, headers, _ = get(server, path, Cookie="")
    assert status == 200
    cookie, *rules = headers["Set-Cookie"].split("; ")
    assert cookie == server.cookie
    assert set(rules) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert get(server, "/about.json", Cookie=f"other=1; {cookie}")[0] == 200
    # The token opens the page, and nothing else.
    assert get(server, f"/about.json?token={server.token}", Cookie="")[0] == 403
    assert get(server, "/?token=", Cookie="")[0] == 403
    assert get(server, f"/?token={server.token[:-1]}", Cookie="")[0] == 403


def test_tokens_are_new_each_time(result):
    with ViewServer(result) as one, ViewServer(result) as other:
        assert one.token != other.token
        assert len(one.token) >= 40


def test_scripts_and_styles_come_from_here_alone(server):
    for path in ("/", "/about.json", "/nothing"):
        policy = get(server, path)[1]["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
    page = get(server, "/")[2].decode()
    assert "<script>" not in page
    assert "style=" not in page
    assert " on" not in page.split("<body>")[1].replace(" only", "")


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/%2e%2e/server.py",
        "//etc/passwd",
        "/static/main.js",
        "/run.json",
        "/index.html",
        "/tiles/image/0/0_0.png/../../../main.js",
        "/tiles/image/-1/0_0.png",
        "/tiles/image/99/0_0.png",
        "/tiles/image/0/9999999_0.png",
        "/tiles/image/0/99999999999_0.png",
        "/tiles/probabilities/0/0_0.png",
        "/region.json?label=0",
        "/region.json?label=999999999",
        "/regions.json?by=nothing",
        "/regions.json?by=area&around=999999999",
    ],
)
def test_there_is_nothing_else(server, path):
    assert get(server, path)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/at.json",
        "/at.json?row=1&col=x",
        "/at.json?row=1e9&col=1",
        "/at.json?row=nan&col=1",
        "/region.json?label=-1",
        "/region.json?label=" + "9" * 5000,
        "/regions.json?by=area&start=x",
        "/regions.json",
        "/tiles/mask/0/0_0.png?show=1,x",
        "/?" + "&".join(f"a{n}=1" for n in range(40)),
    ],
)
def test_questions_that_are_none_are_refused(server, path):
    assert get(server, path)[0] == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_reading_is_possible(server, method):
    assert get(server, "/about.json", method=method)[0] == 501


def test_a_body_is_refused_and_ends_the_connection(server):
    assert get(server, "/about.json", **{"Content-Length": "5"})[0] == 400
    assert get(server, "/about.json", **{"Transfer-Encoding": "chunked"})[0] == 400


def test_head_is_get_without_the_body(server):
    _, expected, body = get(server, "/main.js")
    status, headers, nothing = get(server, "/main.js", method="HEAD")
    assert (status, nothing) == (200, b"")
    assert headers["Content-Length"] == expected["Content-Length"] == str(len(body))


def test_nothing_is_written(server, result):
    before = tree(result, without=())
    for path in PATHS:
        get(server, path)
    assert tree(result, without=()) == before


def test_it_listens_on_this_machine_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_many_connections_are_cut_off_and_do_no_harm(server):
    held = []
    try:
        for _ in range(100):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            connection.sendall(b"GET /about.json HTTP/1.1\r\n")
            held.append(connection)
        # The last ones are closed at once.
        assert held[-1].recv(1) == b""
    finally:
        for connection in held:
            connection.close()
    # Threads of closed connections end when they notice, one after another.
    for _ in range(200):
        try:
            assert get(server, "/about.json")[0] == 200
            break
        except (http.client.HTTPException, ConnectionError):
            continue
    else:
        pytest.fail("it answers no more")


def test_tiles_are_cut_for_many_at_once(server):
    answers: list[bytes] = []

    def ask():
        answers.append(get(server, "/tiles/image/1/0_0.png")[2])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    assert len(set(answers)) == 1


def test_a_port_that_is_taken_is_named(result, server):
    with pytest.raises(UsageError, match=f"port {server.port} can't be taken") as error:
        ViewServer(result, server.port)
    assert error.value.id == "E-VIEW-PORT"


def test_ctrl_c_ends_the_command_well(result):
    browser, opened = result.parent / "browser", result.parent / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    os.mkfifo(opened)  # reading waits until it is written
    command = [TILSEG, "view", str(result)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "BROWSER": str(browser)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        host, _, token = address.removeprefix("http://").partition("/?token=")
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("GET", f"/?token={token}")
        cookie = connection.getresponse().getheader("Set-Cookie").split(";")[0]
        connection.close()
        connection.request("GET", "/about.json", headers={"Cookie": cookie})
        assert json.loads(connection.getresponse().read())["name"] == "slide"
        assert opened.read_text().strip() == address
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in said
