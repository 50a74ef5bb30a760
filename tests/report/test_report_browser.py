"""The pages in headless Chromium: no error, no request, keyboard, accessibility, print."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from report.report_files import EVIL, card_of, predictions_of, write_evaluated, write_inference

from scripts.report.report_run import write_reports

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
NAME = "Fall & 3 #7"
PAGES = ["report.html", f"slides/{NAME}.html"]


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium: install Debian's package chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browsed")
    card = card_of("normal", EVIL)
    write_inference(folder / "out", card, predictions_of(7, names=[NAME]), failed="broken")
    write_evaluated(folder / "eval", card, predictions_of(30, seed=3))
    return write_reports(folder / "out", evaluation_dir=folder / "eval").parent


class Seen:
    """A page, and what it did that it must not do."""

    def __init__(self, browser: sync_api.Browser, path: Path, **options: object) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"alert: {dialog.message}"))
        self.page.on("request", self._requested)
        self.page.goto(path.as_uri())

    def _requested(self, request: sync_api.Request) -> None:
        if not request.url.startswith(("data:", "file:")) or (
            request.url.startswith("file:") and not request.is_navigation_request()
        ):
            self.wrong.append(f"request: {request.url}")

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()
        if error[0] is None:
            assert not self.wrong, self.wrong


def zoom_of(page: sync_api.Page) -> str:
    return str(page.get_by_role("group", name="Zoom").locator("output").inner_text())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(browser: sync_api.Browser, reported: Path, name: str, scheme: str) -> None:
    with Seen(browser, reported / name, color_scheme=scheme) as seen:
        for details in seen.page.locator("details").all():
            details.evaluate("one => (one.open = true)")
        found = axe.Axe().run(seen.page)
        assert found.violations_count == 0, found.generate_report()
        if name == "report.html":
            seen.page.locator(".thumb").first.click()
            found = axe.Axe().run(seen.page)
            assert found.violations_count == 0, found.generate_report()


def test_light_and_dark_differ(browser: sync_api.Browser, reported: Path) -> None:
    """Also in the plots, whose text must stand out from the page in both."""
    shades = {}
    for scheme in ("light", "dark"):
        with Seen(browser, reported / "report.html", color_scheme=scheme) as seen:
            paper = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            ink = seen.page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
            shades[scheme] = [sum(map(int, colour[4:-1].split(", ")[:3])) for colour in (paper, ink)]
    assert shades["light"][0] > 600 > 200 > shades["light"][1]
    assert shades["dark"][0] < 200 < 600 < shades["dark"][1]


@pytest.mark.parametrize("width", [400, 800, 1400])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_sticks_out(browser: sync_api.Browser, reported: Path, name: str, width: int) -> None:
    with Seen(browser, reported / name, viewport={"width": width, "height": 800}) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_picture_by_keyboard(browser: sync_api.Browser, reported: Path) -> None:
    with Seen(browser, reported / PAGES[1]) as seen:
        page, heat = seen.page, seen.page.locator(".stage .heat")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('[data-layer=heat]')"):
                break
        page.keyboard.press("Space")
        assert not heat.is_visible()
        page.keyboard.press("Space")
        assert heat.is_visible()
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('.viewport')"):
                break
        assert zoom_of(page) == "100 %"
        page.keyboard.press("+")
        page.keyboard.press("+")
        assert zoom_of(page) == "225 %"
        before = heat.bounding_box()
        page.keyboard.press("ArrowRight")
        after = heat.bounding_box()
        assert before and after and after["x"] < before["x"] and after["width"] == before["width"]
        for _ in range(60):
            page.keyboard.press("ArrowRight")
        edge, viewport = heat.bounding_box(), page.locator(".viewport").bounding_box()
        assert edge and viewport
        assert edge["x"] + edge["width"] == pytest.approx(viewport["x"] + viewport["width"], abs=2), "not past the edge"
        page.keyboard.press("h")
        assert not heat.is_visible()
        page.keyboard.press("0")
        assert zoom_of(page) == "100 %"
        page.locator("[data-layer=left-out]").check()
        assert page.locator(".stage .left-out").is_visible()


def test_layers_lie_over_each_other(browser: sync_api.Browser, reported: Path) -> None:
    with Seen(browser, reported / PAGES[1]) as seen:
        page = seen.page
        page.locator("[data-zoom=in]").click()
        boxes = [page.locator(f".stage .{name}").bounding_box() for name in ("tissue", "heat")]
        assert boxes[0] == boxes[1]
        assert boxes[0] and boxes[0]["width"] / boxes[0]["height"] == pytest.approx(8 / 6, rel=0.01)
        bar, viewport = page.locator(".scale").bounding_box(), page.locator(".viewport").bounding_box()
        assert page.locator(".scale").inner_text() == "100 µm" and bar and viewport
        # the box is 512 um wide, and shown at 150 %
        assert bar["width"] / viewport["width"] == pytest.approx(1.5 * 100 / 512, abs=0.01)


def test_the_cohort_by_keyboard(browser: sync_api.Browser, reported: Path) -> None:
    with Seen(browser, reported / "report.html") as seen:
        page = seen.page
        page.locator(".thumb").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("dialog").is_visible() and page.locator("dialog h2").inner_text() == NAME
        assert page.locator("dialog .stage .heat").is_visible()
        page.locator("dialog .viewport").focus()
        page.keyboard.press("+")
        assert zoom_of(page) == "150 %"
        page.keyboard.press("Escape")
        assert not page.locator("dialog").is_visible()
        assert page.evaluate("document.activeElement.className") == "thumb"
        page.locator("[data-all-heat]").uncheck()
        assert not page.locator(".thumb .heat").first.is_visible()
        page.locator(".thumb").first.click()
        page.locator("dialog a").click()
        assert page.locator("h1").inner_text() == NAME


def test_tables_are_sorted(browser: sync_api.Browser, reported: Path) -> None:
    with Seen(browser, reported / "report.html") as seen:
        page = seen.page
        head = page.locator("table.slides thead th", has_text="Stream score")
        shown = "[...document.querySelectorAll('table.slides tbody tr')].map(row => row.cells[5].textContent.trim())"
        given = page.evaluate(shown)
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert page.evaluate(shown) == sorted(given, key=float) and head.get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Enter")
        assert page.evaluate(shown) == sorted(given, key=float, reverse=True)
        page.locator("table.slides thead button", has_text="Slide").first.click()
        assert head.get_attribute("aria-sort") == "none"


def shown_rows(page: sync_api.Page) -> list[str]:
    """Numbers of the slides in view."""
    rows = "[...document.querySelectorAll('table.slides tbody tr')].filter(row => row.checkVisibility())"
    return [str(name) for name in page.evaluate(f"{rows}.map(row => row.cells[1].textContent.trim())")]


@pytest.fixture(scope="module")
def long_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 230 slides, without heat maps: three parts of the table."""
    folder = tmp_path_factory.mktemp("long")
    write_inference(folder, card_of("a", "b"), predictions_of(230, labelled=False), heat_maps=False)
    return write_reports(folder)


def test_a_long_table_is_shown_in_parts(browser: sync_api.Browser, long_report: Path) -> None:
    """By keyboard; sorting is over all rows, and begins at the first part."""
    with Seen(browser, long_report) as seen:
        page, output = seen.page, seen.page.locator(".pager output")
        assert len(shown_rows(page)) == 100 and output.inner_text() == "1 to 100 of 230"
        page.locator(".pager [data-step='1']").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        assert shown_rows(page) == [f"slide_{index}" for index in range(200, 230)]
        page.keyboard.press("Enter")
        assert output.inner_text() == "201 to 230 of 230", "no further than the last part"
        assert page.evaluate("document.activeElement.dataset.step") == "1", "the focus stays"
        head = page.locator("table.slides thead button", has_text="Slide").first
        head.click()
        head.click()
        assert output.inner_text() == "1 to 100 of 230" and shown_rows(page)[0] == "slide_229"


def test_rows_of_a_long_table_are_found(browser: sync_api.Browser, long_report: Path) -> None:
    with Seen(browser, long_report) as seen:
        page = seen.page
        box = page.locator("[data-find]").bounding_box()
        assert box and box["width"] > 150, "room for a name"
        page.locator("[data-find]").fill("SLIDE_22")
        assert shown_rows(page) == ["slide_22", *(f"slide_{index}" for index in range(220, 230))]
        assert page.locator(".pager output").inner_text() == "1 to 11 of 11"
        page.locator("[data-find]").fill("no such slide")
        assert shown_rows(page) == [] and page.locator(".pager output").inner_text() == "none"


@pytest.fixture(scope="module")
def nine_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with as many classes as a study of tissue has."""
    folder = tmp_path_factory.mktemp("nine")
    tissues = ("adipose", "background", "debris", "lymphocytes", "mucus", "muscle", "normal mucosa", "stroma", "tumor")
    write_inference(folder, card_of(*tissues), predictions_of(27, len(tissues)), heat_maps=False)
    return write_reports(folder)


@pytest.mark.parametrize("width", [400, 1280])
def test_a_confusion_matrix_of_nine_classes_scrolls_by_itself(
    browser: sync_api.Browser, nine_classes: Path, width: int
) -> None:
    """By keyboard, too."""
    with Seen(browser, nine_classes, viewport={"width": width, "height": 800}) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        box = seen.page.get_by_role("group", name="Confusion matrix")
        box.focus()
        seen.page.keyboard.press("ArrowRight")
        # The browser scrolls smoothly. To wait for a function would be eval in the page, which refuses it.
        for _ in range(50):
            if moved := seen.page.evaluate("document.activeElement.scrollLeft > 0"):
                break
            seen.page.wait_for_timeout(100)
        assert moved
        found = axe.Axe().run(seen.page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_long_table(browser: sync_api.Browser, long_report: Path, scheme: str) -> None:
    with Seen(browser, long_report, color_scheme=scheme) as seen:
        found = axe.Axe().run(seen.page)
        assert found.violations_count == 0, found.generate_report()


def test_a_long_table_is_whole_on_paper_and_without_script(browser: sync_api.Browser, long_report: Path) -> None:
    with Seen(browser, long_report, java_script_enabled=False) as seen:
        assert seen.page.locator("table.slides tbody tr").nth(229).is_visible()
        assert not seen.page.locator(".pager").is_visible()
    with Seen(browser, long_report) as seen:
        assert not seen.page.locator("table.slides tbody tr").nth(229).is_visible()
        seen.page.emulate_media(media="print")
        assert seen.page.locator("table.slides tbody tr").nth(229).is_visible()


def test_on_paper(browser: sync_api.Browser, reported: Path) -> None:
    """Black on white whatever the screen's scheme, without controls, with settings unfolded; as a PDF too."""
    with Seen(browser, reported / PAGES[1], color_scheme="dark") as seen:
        page = seen.page
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator(".controls").is_visible()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#settings + details table").is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("document.querySelector('#settings + details').open") is False
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_script_the_pages_still_tell(browser: sync_api.Browser, reported: Path) -> None:
    with Seen(browser, reported / PAGES[1], java_script_enabled=False) as seen:
        assert seen.page.locator(".stage .heat").is_visible() and not seen.page.locator(".controls").is_visible()
