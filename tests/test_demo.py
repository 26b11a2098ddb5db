"""python -m cxr_gan.demo: the page's files, its runtime, and the page in a browser."""

import contextlib
import dataclasses
import http.server
import importlib.resources
import json
import re
import shutil
import threading
import time

import numpy as np
import pytest
import tiny_generator
from absl import flags
from PIL import Image

import cxr_gan
from cxr_gan import demo
from cxr_gan.sampling import sampler, web_runtime
from cxr_gan.storage import checkpoint

META = {
    "step": 7,
    "generator": dataclasses.asdict(tiny_generator.CONFIG),
    "licence": "CC0",
    "people": "Nobody",
}


@pytest.fixture
def command(monkeypatch):
    """command("--out=...") -> exit code; every run is the tiny generator."""
    params = tiny_generator.params().params
    monkeypatch.setattr(checkpoint, "load_item", lambda *_: (params, META))

    def command(*arguments):
        values = flags.FlagValues()
        demo.define_flags(values)
        values(["demo", "--model=runs/tiny", *arguments])
        return demo.main(["demo"], values)

    return command


@pytest.fixture
def runtime(tmp_path):
    """A folder with files of the runtime's names."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in web_runtime.FILES:
        (folder / name).write_text(f"/* ONNX Runtime Web v{web_runtime.VERSION} */")
    return folder


def test_folder_has_every_file_that_the_page_names(command, runtime, tmp_path, capsys):
    out = tmp_path / "site"
    assert command(f"--out={out}", f"--runtime={runtime}") == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    scripts = [path.read_text(encoding="utf-8") for path in out.glob("*.js")]
    named = re.findall(r'(?:src|href)="([\w.]+)"', page)
    named += re.findall(r'"\./([\w./-]+)"', "".join(scripts))
    named += re.findall(r'(?:fetch|create)\("([\w.]+)"', "".join(scripts))
    assert len(named) >= 9
    assert all((out / name).is_file() for name in named)
    about = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert about["class_names"] == ["NORMAL", "PNEUMONIA"]
    assert (about["resolution"], about["latent_size"]) == (32, 8)
    printed = capsys.readouterr().out
    assert "CC0" in printed and "MIT License" in printed
    assert "CC0" in (out / "LICENSES.txt").read_text(encoding="utf-8")


def test_controls_of_the_page_exist_where_the_script_expects_them():
    folder = importlib.resources.files("cxr_gan.sampling") / demo.PAGE
    page = (folder / "index.html").read_text(encoding="utf-8")
    script = "".join(
        (folder / name).read_text(encoding="utf-8") for name in ("page.js", "game.js")
    )
    ids = set(re.findall(r'\bid="([\w-]+)"', page))
    used = set(re.findall(r'(?:element|put)\("([\w-]+)"', script))
    assert len(used) > 15
    assert used <= ids
    assert not re.search(r"https?://", page + script)


def test_runtime_that_lacks_a_file_is_refused(command, runtime, tmp_path, capsys):
    (runtime / "ort.wasm.min.mjs").unlink()
    assert command(f"--out={tmp_path}/site", f"--runtime={runtime}") == 1
    assert "lacks ort.wasm.min.mjs" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_without_npm_one_sentence_says_what_to_do(
    command, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert command(f"--out={tmp_path}/site") == 1
    error = capsys.readouterr().err
    assert "npm is not installed" in error and "--runtime=FOLDER" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no network >&2; exit 1", "could not download onnxruntime-web (no net"),
        ("echo damaged > onnxruntime-web.tgz", "has the sha512"),
    ],
)
def test_failed_download_is_reported_and_not_cached(
    command, tmp_path, capsys, monkeypatch, script, words
):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda _: str(npm))
    assert command(f"--out={tmp_path}/site") == 1
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "cache").rglob("*.mjs"))


def test_runtime_of_another_version_is_refused(command, runtime, tmp_path, capsys):
    (runtime / "ort.wasm.min.mjs").write_text("/* ONNX Runtime Web v1.2.3 */")
    assert command(f"--out={tmp_path}/site", f"--runtime={runtime}") == 1
    assert f"is not version {web_runtime.VERSION}" in capsys.readouterr().err


def test_port_in_use_is_reported_before_anything_is_written(
    command, runtime, tmp_path, capsys
):
    with http.server.HTTPServer(("127.0.0.1", 0), demo.Handler) as server:
        port = f"--port={server.server_port}"
        arguments = (f"--out={tmp_path}/site", f"--runtime={runtime}", "--serve", port)
        assert command(*arguments) == 1
    assert "give another one" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


@contextlib.contextmanager
def served(folder):
    """The address of a folder that is served."""
    with demo.bind(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def browser(tmp_path):
    """Headless Chromium that saves downloads to tmp_path / "saved"."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1100,1400"):
        options.add_argument(argument)
    preferences = {"download.default_directory": str(tmp_path / "saved")}
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    )
    yield driver
    driver.quit()


def until(condition, seconds=60.0):
    """The first true value of a function, which is called until then."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return value


def shown(browser, part):
    """Grey values of the canvases of a part of the page: uint8 [n, s, s]."""
    script = """return [...document.querySelectorAll(`#${arguments[0]} canvas`)].map(
        c => [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data])"""
    values = np.array(browser.execute_script(script, part), np.uint8)
    size = round((values.shape[1] / 4) ** 0.5)
    return values.reshape(len(values), size, size, 4)[..., 0]


@pytest.mark.system
def test_page_draws_the_images_of_sample_and_plays_the_game(browser, tmp_path):
    out = tmp_path / "site"
    values = flags.FlagValues()
    demo.define_flags(values)
    values(["demo", "--model=pediatric64", f"--out={out}"])
    assert demo.main(["demo"], values) == 0
    params = cxr_gan.load("pediatric64")
    begin = time.monotonic()
    with served(out) as address:
        browser.get(address)
        until(lambda: browser.find_element("id", "status").text == "")
        assert time.monotonic() - begin < 30  # 3 s on an idle machine
        pixels = 255 * np.asarray(cxr_gan.sample(params, [0, 1], 0))[..., 0]
        first = pixels[0]
        assert np.abs(shown(browser, "image")[0] - first).max() <= 2
        pair = shown(browser, "pair").astype(float)
        assert np.abs(pair[0] - first).max() <= 2
        assert np.abs(pair[2] - 127.5 - (pair[1] - pair[0]) / 2).max() <= 1
        middle = cxr_gan.interpolate(
            params,
            cxr_gan.latents(params, 1, 0),
            cxr_gan.latents(params, 1, 0, start=1),
            ["NORMAL"],
            3,
        )
        expected = 255 * np.asarray(middle)[0, 1, ..., 0]
        assert np.abs(shown(browser, "step")[0] - expected).max() <= 2

        browser.find_element("id", "draw").click()
        speed = until(lambda: browser.find_element("id", "speed").text)
        assert float(speed.split()[0]) > 1  # 6 on an idle machine
        drawn = shown(browser, "grid")
        assert len(drawn) == 16
        assert np.abs(drawn[:2] - pixels).max() <= 2

        seed = browser.find_element("id", "seed")
        seed.clear()
        seed.send_keys("-1")
        until(lambda: "from 0 to" in browser.find_element("id", "status").text)
        browser.find_element("css selector", '[data-save="pair"]').click()
        saved = until(lambda: [*(tmp_path / "saved").glob("*.png")])[0]
        with Image.open(saved) as image:
            assert image.size == (192, 64)
            assert image.info["Synthetic"] == "true"
            assert image.info["Seed"] == "0"  # of the picture, not of the control
            assert "seed 0, number 0" in image.info["Label"]
            model = sampler.fingerprint(cxr_gan.load("pediatric64"))
            assert image.info["Model"] == model
            assert "It shows no patient" in image.info["Description"]

        folder = tmp_path / "real"
        folder.mkdir()
        for i in range(3):
            noise = np.random.default_rng(i).integers(0, 256, (80, 100))
            Image.fromarray(noise.astype(np.uint8)).save(folder / f"{i}.png")
        (folder / "notes.txt").write_text("no image")
        browser.find_element("id", "folder").send_keys(str(folder))
        until(lambda: browser.find_element("id", "answers").is_displayed())
        for _ in range(6):  # noise varies more from pixel to pixel
            image = shown(browser, "trial")[0].astype(float)
            is_noise = np.abs(np.diff(image)).mean() > 20
            browser.switch_to.active_element.send_keys("r" if is_noise else "s")
        assert browser.find_element("id", "score").text.startswith("6 of 6 right")

        script = "return performance.getEntriesByType('resource').map(x => x.name)"
        requested = browser.execute_script(script)
        assert len(requested) > 5
        assert all(name.startswith((address, "blob:", "data:")) for name in requested)
        assert not browser.get_log("browser")
        for width in (390, 1100):
            browser.set_window_size(width, 900)
            wide = browser.execute_script("return document.body.scrollWidth")
            assert wide <= browser.execute_script("return innerWidth")
            browser.save_screenshot(str(tmp_path / f"page{width}.png"))
