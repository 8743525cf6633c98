"""A browser for the tests of the page."""
import pytest
from browser import CHROMIUM, DRIVER, FLAGS, Page


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A browser of its own; the test is skipped where there is none."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: python -m pip install selenium")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, tmp_path):
    return Page(driver, tmp_path / "page.html")
