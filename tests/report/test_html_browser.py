"""The page in a real browser: quiet console, no request, explorer and map by mouse and keys, no serious axe fault."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from recsys.report.html import render_html
from tests.browser import asked, opened, said
from tests.report.contents import PAYLOADS, bare, filled

By = pytest.importorskip("selenium.webdriver.common.by", reason="selenium is not installed").By
Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is not installed").Keys
ActionChains = pytest.importorskip("selenium.webdriver", reason="selenium is not installed").ActionChains
CSS = By.CSS_SELECTOR


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages on disk: a whole one, an empty one, one of markup."""
    folder = tmp_path_factory.mktemp("pages")
    contents = {
        "whole": filled(),
        "bare": bare(count=3),
        "markup": filled(lambda number: PAYLOADS[number % 60], count=62),
    }
    for name, content in contents.items():
        (folder / f"{name}.html").write_text(render_html(content), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in contents}


def click(browser: Any, element: Any) -> None:
    """Click in the middle of the window, away from the bar at its top."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


@pytest.mark.parametrize("name", ["whole", "bare", "markup"])
def test_the_console_is_quiet_and_nothing_leaves_the_page(browser: Any, pages: dict[str, Path], name: str) -> None:
    opened(browser, pages[name])
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    click(browser, browser.find_element(CSS, "#theme"))
    assert browser.execute_script("return window.pwned") is None
    assert said(browser) == []
    assert asked(browser) == [pages[name].as_uri()]
    assert browser.execute_script("return getComputedStyle(document.body).maxWidth") is not None


def test_the_policy_bars_what_was_not_written_with_the_page(browser: Any, pages: dict[str, Path]) -> None:
    """So that a quiet console and an empty log of requests say something."""
    opened(browser, pages["whole"])
    browser.execute_script(
        "const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image);"
        "const script = document.createElement('script'); script.textContent = 'window.pwned = 1';"
        "document.body.append(script); document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')"
    )
    messages = " ".join(said(browser))
    assert "img-src" in messages and "script-src" in messages and "style-src" in messages
    assert browser.execute_script("return window.pwned") is None


def test_the_explorer_works_by_mouse(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["whole"])

    def shown() -> str:
        return str(browser.find_element(CSS, "#selection .chosen .name").text)

    buttons = browser.find_elements(CSS, "#product-list button")
    assert len(buttons) == 22 and shown() == "words 1"
    click(browser, buttons[5])
    assert shown() == "words 6" and buttons[5].get_attribute("aria-pressed") == "true"
    near = browser.find_elements(CSS, "#selection .near > *")
    assert [one.find_element(CSS, ".name").text for one in near] == ["words 7", "words 8"]
    click(browser, near[1])
    assert shown() == "words 8"
    assert browser.switch_to.active_element.text == "words 8"


def test_the_explorer_works_by_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["whole"])
    find = browser.find_element(CSS, "#title-search")
    find.send_keys("words 2")  # "words 2" and "words 20" to "words 22"
    open_ones = [one for one in browser.find_elements(CSS, "#product-list button") if one.is_displayed()]
    assert len(open_ones) == 4 and browser.find_element(CSS, "#match-count").text == "4 of 22"
    find.send_keys(Keys.TAB)
    assert browser.switch_to.active_element == open_ones[0]
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element == open_ones[1]
    browser.switch_to.active_element.send_keys(Keys.END)
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.find_element(CSS, "#selection .chosen .name").text == "words 21"
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_the_map_shows_products_by_mouse_and_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["whole"])
    tip = browser.find_element(CSS, "#tip")
    dot = browser.find_element(CSS, "#map circle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", dot)
    ActionChains(browser).move_to_element(dot).perform()
    assert tip.is_displayed() and "words 1" in tip.text
    browser.find_element(CSS, "#map").send_keys(Keys.ARROW_RIGHT)
    first = tip.text
    browser.find_element(CSS, "#map").send_keys(Keys.ARROW_UP)
    assert tip.is_displayed() and tip.text != first
    button = browser.find_element(CSS, ".on-map")
    click(browser, button)
    assert button.get_attribute("aria-pressed") == "true"
    assert {one.get_attribute("data-cluster") for one in browser.find_elements(CSS, "#map circle.active")} == {"0"}


def test_dark_and_light_are_kept_apart(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["whole"])
    browser.execute_script("localStorage.clear()")
    browser.refresh()
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(paper)
    click(browser, browser.find_element(CSS, "#theme"))
    assert browser.execute_script(paper) != light
    browser.refresh()
    assert browser.execute_script(paper) != light
    click(browser, browser.find_element(CSS, "#theme"))
    assert browser.execute_script(paper) == light


def test_a_phone_scrolls_in_one_direction_only(browser: Any, pages: dict[str, Path]) -> None:
    size = {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for name in ("whole", "markup"):
            opened(browser, pages[name])
            assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["whole", "bare"])
def test_axe_finds_no_serious_fault(browser: Any, pages: dict[str, Path], name: str, theme: str) -> None:
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core-python is not installed")
    axe = Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    opened(browser, pages[name])
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.execute_script(axe)
    result = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']}).then(done, (error) => done({failed: String(error)}))"
    )
    assert "failed" not in result, result
    serious = [
        (fault["id"], node["html"][:120], node["failureSummary"])
        for fault in result["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
    assert serious == []
    assert result["testEngine"]["name"] == "axe-core"
