// node browser.mjs CHROMIUM REQUEST: open a page, use it as a person would, print what it shows.
// REQUEST is JSON: url, fill {id: value}, file, enter (key to submit with), shot, size, dark.
import { createRequire } from "node:module";

const { chromium } = createRequire(`${process.cwd()}/`)("playwright-core");
const request = JSON.parse(process.argv[3]);
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath: process.argv[2], args });
try {
  const page = await browser.newPage({
    viewport: request.size ?? { width: 800, height: 700 },
    colorScheme: request.dark ? "dark" : "light",
  });
  const said = [];
  page.on("console", (message) => message.type() === "error" && said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  await page.goto(request.url);
  await page.waitForSelector("body[data-state=ready], body[data-state=failed]", { timeout: 60000 });
  const texts = [];
  if (await page.isVisible("#form")) {
    for (const [id, value] of Object.entries(request.fill ?? {})) await page.fill(`#${id}`, value);
    // Keep every text that is shown on the way.
    await page.evaluate(() => {
      window.shown = [];
      new MutationObserver(() => window.shown.push(document.getElementById("text").textContent))
        .observe(document.getElementById("text"), { childList: true, characterData: true, subtree: true });
    });
    if (request.file) await page.setInputFiles("#file", request.file);
    else if (request.enter) await page.press("textarea:visible", request.enter);
    else await page.click("#go");
    await page.waitForSelector("body[data-state=done], body[data-state=failed]", { timeout: 120000 });
    texts.push(...await page.evaluate(() => window.shown));
  }
  if (request.shot) await page.screenshot({ path: request.shot, fullPage: true });
  const shown = await page.evaluate(() => ({
    state: document.body.dataset.state,
    status: document.getElementById("status").textContent,
    text: document.getElementById("text").textContent,
    title: document.title,
    columns: [...document.querySelectorAll("thead th")].map((cell) => cell.textContent),
    rows: [...document.querySelectorAll("tbody tr")].map((row) => row.querySelector("th").textContent),
    weights: [...document.querySelectorAll("tbody tr")].map((row) =>
      [...row.querySelectorAll("td")].map((cell) => Number(cell.style.getPropertyValue("--weight")))),
    words: [...document.querySelectorAll("#attention button")].map((word) => word.textContent),
    unlabelled: [...document.querySelectorAll("input, textarea, button, output")]
      .filter((one) => !one.labels?.length && !one.textContent && !one.ariaLabel).map((one) => one.id),
    wider: document.documentElement.scrollWidth > window.innerWidth,
  }));
  console.log(JSON.stringify({ ...shown, texts, said }));
} finally {
  await browser.close();
}
