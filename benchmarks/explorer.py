"""From a key's event to the painted frame that shows its answer, in ms: by the server, and in the static page.

12 objects and four rules on the priors of torchvision's FCOS and RetinaNet and of the course's detector. Every key is
pressed when the last one's answer stands on the screen. Needs Chromium and Playwright: python benchmarks/explorer.py
"""

import shutil
import statistics
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from labelkit.explore.opening import opened
from labelkit.explore.page import static_page
from labelkit.explore.server import open_server
from labelkit.scenes import SCENES

KEYS = 60
PRIORS = ("fcos", "course-anchors", "retinanet")
WATCH = """() => {
  const page = document.getElementById("explorer").labelkit;
  let start = null, painted = page.painted;
  window.times = [];
  addEventListener("keydown", event => { start = event.timeStamp; }, true);
  Object.defineProperty(page, "painted", {get: () => painted, set(number) {
    if (number > painted && start !== null) {
      const from = start, {port1, port2} = new MessageChannel();  // a message comes after the frame is painted
      start = null;
      port1.onmessage = () => { window.times.push(performance.now() - from); window.told?.(); };
      port2.postMessage(0);
    }
    painted = number;
  }});
}"""


def measure(page: Page) -> list[float]:
    page.evaluate("document.getElementById('explorer').labelkit.settled()")
    page.evaluate(WATCH)
    page.locator(".lkx-object").first.focus()
    page.wait_for_timeout(1000)
    for number in range(KEYS):
        page.keyboard.press(("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp")[number // 8 % 4])
        page.evaluate(f"() => window.times.length > {number} || new Promise(told => {{ window.told = told; }})")
    return page.evaluate("window.times")


def main() -> None:
    objects = SCENES["crowd"].boxes[:12].tolist()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        print(f"{'priors':16}{'transport':12}{'median':>8}{'p90':>8}")
        for priors in PRIORS:
            begun = opened({"size": [128, 128], "objects": objects, "priors": priors})
            file = Path(folder) / "explorer.html"
            file.write_text(static_page(begun.scene), encoding="utf-8")
            with open_server(begun, 0) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                for name, address in (("server", server.address), ("static", file.as_uri())):
                    page = browser.new_page(viewport={"width": 1400, "height": 900})
                    page.goto(address)
                    times = sorted(measure(page))
                    print(f"{priors:16}{name:12}{statistics.median(times):8.0f}{times[int(0.9 * len(times))]:8.0f}")
                    page.close()
                server.shutdown()
        browser.close()


if __name__ == "__main__":
    main()
