"""A headless Chromium, driven by selenium, that opens pages from files."""
import shutil

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")

# Colours of all text that shows, against what lies behind it: [text, ratio] of what falls below the least.
LOW_CONTRAST = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = numbers(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
  if (!own || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
  const [a, b] = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < arguments[0]) found.push([own.slice(0, 60), ratio]);
}
return found;
"""


class Page:
    """A page in the browser, from its HTML."""

    def __init__(self, driver, path):
        self.driver, self.path = driver, path

    def open(self, html: str, *, width: int = 1280, scheme: str = "light", motion: str = "no-preference") -> "Page":
        self.path.write_text(html, encoding="utf-8")
        self.driver.get_log("browser")  # forget what earlier pages said
        self._command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                      mobile=width < 600)
        self._command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme},
                                                              {"name": "prefers-reduced-motion", "value": motion}])
        self.driver.get(self.path.as_uri())
        return self

    def _command(self, name, **parameters):
        self.driver.execute_cdp_cmd(name, parameters)

    def console(self) -> list[str]:
        """What the browser's console has said since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str):
        return self.driver.find_elements("css selector", selector)

    def shown(self, selector: str):
        return [element for element in self.all(selector) if element.is_displayed()]

    def press(self, *keys: str) -> None:
        """Type keys by the names of `selenium.webdriver.Keys`, wherever the focus is."""
        from selenium.webdriver import ActionChains, Keys

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(getattr(Keys, key)).perform()

    def focused(self):
        return self.driver.switch_to.active_element

    def low_contrast(self, least: float = 4.5) -> list:
        """Text that stands out too little: 4.5 is WCAG's AA."""
        return self.run(LOW_CONTRAST, least)

    def too_wide(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth")
