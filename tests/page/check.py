"""Looks at the status page of a real fleet as people do: in a browser, with and without JavaScript, on a phone, in the
dark, by keyboard. `scripts/page-check.sh` calls this."""

import argparse
import os
import subprocess
import time

from playwright.sync_api import sync_playwright

from fleet import Fleet, until

SIZES = {"desktop": (1280, 900), "phone": (390, 844), "narrow": (320, 640)}
passed = 0


def holds(what, truth, why=""):
    global passed
    assert truth, f"{what}: {why}"
    passed += 1
    print(f"  ok  {what}")


class Eyes:
    """A browser that notes what it should not see."""

    def __init__(self, browser, axe, here, base):
        self.browser, self.axe, self.here, self.base = browser, axe, here, base
        self.wrong = []

    def open(self, path, size="desktop", dark=False, script=True):
        width, height = SIZES[size]
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.on("request", lambda r: r.url.startswith(self.base) or self.wrong.append(f"request to {r.url}"))
        page.on("pageerror", lambda e: self.wrong.append(f"{path}: {e}"))
        page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(f"{path}: {m.text}"))
        answer = page.goto(self.base + path, wait_until="load")
        assert answer.ok, f"{path}: {answer.status}"
        return page

    def shoot(self, name, path):
        """Screenshots in all forms; no serious finding of axe, nothing wider than the page."""
        for size, dark in [("desktop", False), ("desktop", True), ("phone", False), ("phone", True), ("narrow", False)]:
            page = self.open(path, size, dark)
            form = f"{name}-{size}-{'dark' if dark else 'light'}"
            page.wait_for_timeout(400)
            if size != "narrow":
                page.screenshot(path=f"{self.here}/{form}.png", full_page=True)
                page.evaluate(self.axe)
                found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
                bad = [f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:200]} {v['nodes'][0]['failureSummary'][:300]}" for v in found if v["impact"] in ("serious", "critical")]
                holds(f"axe finds nothing serious: {form}", not bad, "\n".join(bad))
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            holds(f"no wider than the screen: {form}", wide <= 0, f"{wide} pixels too wide")
            page.context.close()


def keyboard(eyes, path):
    page = eyes.open(path)
    page.keyboard.press("Tab")
    holds("the first stop skips the navigation", page.evaluate("document.activeElement.className") == "skip")
    page.keyboard.press("Enter")
    holds("and leads to the content", page.evaluate("document.activeElement.id") == "content")
    reached, stops = set(), page.evaluate("[...document.querySelectorAll('main a[href], main summary, main button, main input:not([type=hidden]), main [tabindex=\"0\"]')].filter(e => e.offsetParent !== null && !e.closest('details:not([open]) > :not(summary)')).length")
    for _ in range(stops + 5):
        page.keyboard.press("Tab")
        state = page.evaluate("(() => { const e = document.activeElement; if (!e || !e.closest('main')) return null; const s = getComputedStyle(e); return [[...document.querySelectorAll('*')].indexOf(e), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0]; })()")
        if state:
            assert state[1], "a stop is not visible"
            reached.add(state[0])
    # A live page may put a section anew meanwhile, which changes places but not their number.
    holds(f"all {stops} stops of {path} are reached and visible", len(reached) >= stops, f"{len(reached)} of {stops}")
    page.context.close()


def live(eyes, path, section):
    """The page changes by itself, and what a person has opened and focused stays."""
    page = eyes.open(path)
    page.wait_for_selector("#live[data-state=live]", timeout=10_000)
    page.evaluate("window.mine = true")
    details = page.locator("main details").first
    details.locator("summary").click()
    name = details.get_attribute("id")
    text = page.inner_text(f"#{section}")
    until("the section changes", lambda: page.inner_text(f"#{section}") != text, 20)
    page.wait_for_timeout(4500)
    holds("a live page is not loaded again", page.evaluate("window.mine === true"))
    holds("what is open stays open", page.evaluate(f"document.getElementById('{name}').open"))
    holds("what has the focus keeps it", page.evaluate(f"document.activeElement.closest('details')?.id") == name)
    page.context.close()


def without_script(eyes, path):
    page = eyes.open(path, script=False)
    loads = []
    page.on("request", lambda r: r.resource_type == "document" and loads.append(r.url))
    page.wait_for_timeout(12_000)
    holds("without JavaScript the page loads itself again", len(loads) >= 1, f"{loads}")
    page.context.close()


def schemathesis(program, base, here, job=None):
    """Nothing that the API answers differs from its document, whatever is asked."""
    config = f"{here}/schemathesis.toml"
    with open(config, "w") as f:
        f.write("" if job is None else f'[parameters]\n"path.id" = "{job}"\n')
    command = [program, "--config-file", config, "run", f"{base}/api/openapi.json", "--max-examples", "40", "--workers", "1",
               "--continue-on-failure", "--generation-deterministic"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    holds(f"schemathesis finds nothing ({job or 'any job'})", done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:])


def main():
    parse = argparse.ArgumentParser()
    for name in ["adu", "axe", "here", "schemathesis"]:
        parse.add_argument(f"--{name}", required=True)
    args = parse.parse_args()
    with open(args.axe) as f:
        axe = f.read()
    fleet = Fleet(os.path.realpath(args.adu), args.here)
    try:
        first = fleet.daemon()
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            eyes = Eyes(browser, axe, args.here, first.at)
            look(fleet, first, eyes, args)
            holds("no request left the host, nothing was blocked or broke", not eyes.wrong, "\n".join(eyes.wrong))
            browser.close()
    finally:
        fleet.stop()
    print(f"{passed} passed, 0 failed")


def look(fleet, first, eyes, args):
    print("== an empty fleet")
    eyes.shoot("empty-overview", "/")
    eyes.shoot("empty-tables", "/tables")
    eyes.shoot("operations", "/operations")

    print("== a busy fleet")
    second, third = fleet.daemon(), fleet.daemon()
    started = time.monotonic()
    until("the newest daemon knows all", lambda: len(third.json("/api/overview")["daemons"]) == 3, 10)
    holds(f"its page is complete {time.monotonic() - started:.1f} s after it is ready", True)
    fleet.submit({"job_id": "nightly-2026-12-01", "labels": {"team": "crm"}, "consistency": "snapshot",
                  "tables": [{"table": "public.orders", "chunk_rows": 10_000}, {"table": "public.customers", "chunk_rows": 10_000, "where": "id > 5"},
                             "public.slow", "public.slower", "small.*"]})
    fleet.submit({"job_id": "adhoc-events", "tables": [{"table": "public.events", "chunk_rows": 5_000}, "public.slower"]})
    fleet.submit({"job_id": "waits-its-turn", "tables": ["public.customers"]})
    until("chunks run", lambda: first.job("nightly-2026-12-01").get("progress", {}).get("chunks_done", 0) > 10)
    until("rates are known", lambda: first.json("/api/overview")["rates"]["rows_per_second"] > 0)
    eyes.shoot("busy-overview", "/")
    eyes.shoot("busy-job", "/jobs/nightly-2026-12-01")
    place = [t["place"] for t in first.json("/api/jobs/nightly-2026-12-01/tables?search=slower")["tables"]][0]
    eyes.shoot("busy-table", f"/jobs/nightly-2026-12-01/tables/{place}")
    live(eyes, "/", "figures")
    keyboard(eyes, "/jobs/nightly-2026-12-01")
    without_script(eyes, "/")
    schemathesis(args.schemathesis, first.at, args.here, "nightly-2026-12-01")

    print("== a failing fleet")
    fleet.submit({"job_id": "no-rights", "tables": ["public.secrets", "public.customers", "public.missing"]})
    fleet.run("cancel", "adhoc-events")
    until("it ends in part", lambda: first.job("no-rights")["status"] == "partial")
    third.process.kill()
    until("the dead daemon is silent", lambda: any(d["standing"] == "silent" for d in first.json("/api/overview")["daemons"]), 20)
    eyes.shoot("failing-overview", "/")
    eyes.shoot("failing-job", "/jobs/no-rights")
    page = eyes.open("/")
    page.locator("#troubles a[href^='/operations#']").first.click()
    anchor = page.url.split("#")[1]
    holds("a trouble leads to its section of the manual", page.locator(f"[id='{anchor}']").is_visible(), page.url)
    page.context.close()

    print("== a finished fleet")
    fleet.run("cancel", "nightly-2026-12-01")
    until("it ends", lambda: first.job("nightly-2026-12-01")["status"] == "cancelled")
    fleet.submit({"job_id": "weekly", "tables": [{"table": "public.orders", "chunk_rows": 5_000}, "public.customers", "public.slow", "small.*"]})
    until("it ends", lambda: first.job("weekly")["status"] == "completed", 120)
    fleet.submit({"job_id": "weekly-again", "tables": ["public.orders"]})
    until("it ends", lambda: first.job("weekly-again")["status"] == "completed", 120)
    eyes.shoot("finished-overview", "/")
    eyes.shoot("finished-job", "/jobs/weekly")
    eyes.shoot("finished-table", "/jobs/weekly/tables/0")
    eyes.shoot("finished-tables", "/tables")
    keyboard(eyes, "/tables")
    page = eyes.open("/tables")
    page.fill("#search", "orders")
    page.keyboard.press("Enter")
    page.wait_for_url("**/tables?search=orders")
    holds("a search finds the table, with its versions", "orders" in page.inner_text("#tables tbody th") and page.locator("#tables tbody tr").count() == 1)
    page.context.close()
    schemathesis(args.schemathesis, first.at, args.here, "weekly")
    schemathesis(args.schemathesis, first.at, args.here)


if __name__ == "__main__":
    main()
