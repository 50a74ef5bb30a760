"use strict";

// A long table is shown in parts, and by what its rows contain; on paper and without this script it is whole.
class Parts {
  static rows = 100;

  constructor(table, root) {
    [this.body, this.root, this.found, this.at] = [table.tBodies[0], root, "", 0];
    root.hidden = false;
    root.querySelector("[data-find]").addEventListener("input", (event) => {
      this.found = event.target.value.trim().toLowerCase();
      this.show(0);
    });
    for (const button of root.querySelectorAll("[data-step]")) button.addEventListener("click", () => this.show(this.at + Number(button.dataset.step)));
    this.show(0);
  }

  show(at) {
    const rows = [...this.body.rows].filter((row) => {
      row.classList.add("elsewhere");
      return row.textContent.toLowerCase().includes(this.found);
    });
    const last = Math.max(0, Math.ceil(rows.length / Parts.rows) - 1);
    this.at = Math.min(last, Math.max(0, at));
    const begin = this.at * Parts.rows;
    const shown = rows.slice(begin, begin + Parts.rows);
    shown.forEach((row) => row.classList.remove("elsewhere"));
    this.root.querySelector("output").textContent = shown.length ? `${begin + 1} to ${begin + shown.length} of ${rows.length}` : "none";
    const end = { "-1": 0, "1": last };
    for (const button of this.root.querySelectorAll("[data-step]")) button.setAttribute("aria-disabled", this.at === end[button.dataset.step]);
  }
}
const parts = new Map();
for (const table of document.querySelectorAll("table.slides")) {
  if (table.tBodies[0].rows.length > Parts.rows) parts.set(table, new Parts(table, document.querySelector(".pager")));
}

// Tables that can be sorted: a click on a head sorts by that column, a second one turns the order round.
for (const table of document.querySelectorAll("table.slides")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -1 : 1) * compare(key(a), key(b)));
      table.tBodies[0].append(...rows);
      parts.get(table)?.show(0);
    });
  });
}

// A picture with layers that can be switched, faded, zoomed and moved.
class Viewer {
  static most = 16;

  constructor(root) {
    this.root = root;
    this.viewport = root.querySelector(".viewport");
    this.stage = root.querySelector(".stage");
    this.scale = root.querySelector(".scale");
    this.output = root.querySelector("output");
    this.heat = root.querySelector("[data-layer=heat]");
    root.querySelector(".controls").hidden = false;
    this.heat.addEventListener("change", () => this.show());
    root.querySelector("[data-layer=left-out]").addEventListener("change", (event) => root.classList.toggle("shade", event.target.checked));
    root.querySelector("[data-opacity]").addEventListener("input", (event) => root.style.setProperty("--heat", event.target.value / 100));
    for (const button of root.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => this.press(button.dataset.zoom));
    this.viewport.addEventListener("keydown", (event) => this.key(event));
    this.viewport.addEventListener("dblclick", (event) => this.zoomTo(this.zoom * 2, ...this.place(event)));
    this.viewport.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.viewport.addEventListener("pointerdown", (event) => this.grab(event));
    this.fit();
  }

  show() {
    this.root.classList.toggle("no-heat", !this.heat.checked);
  }

  fit() {
    [this.zoom, this.x, this.y] = [1, 0, 0];
    this.draw();
  }

  place(event) {
    const box = this.viewport.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  // x and y: where the middle of the zoom is, as shares of the viewport
  zoomTo(zoom, x = 0.5, y = 0.5) {
    zoom = Math.min(Viewer.most, Math.max(1, zoom));
    this.x = x - ((x - this.x) * zoom) / this.zoom;
    this.y = y - ((y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.draw();
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.draw();
  }

  draw() {
    const within = (value) => Math.min(0, Math.max(1 - this.zoom, value));
    [this.x, this.y] = [within(this.x), within(this.y)];
    this.stage.style.transform = `translate(${100 * this.x}%, ${100 * this.y}%) scale(${this.zoom})`;
    this.viewport.classList.toggle("zoomed", this.zoom > 1);
    this.output.textContent = `${Math.round(100 * this.zoom)} %`;
    const { share, length, unit } = this.scale.dataset;
    const divisor = [1, 2, 5, 10, 20, 50, 100].find((by) => (share * this.zoom) / by < 0.4);
    const shown = length / divisor;
    this.scale.style.setProperty("--share", (share * this.zoom) / divisor);
    this.scale.textContent = unit === "µm" && shown >= 1000 ? `${shown / 1000} mm` : `${shown} ${unit}`;
  }

  press(what) {
    if (what === "fit") this.fit();
    else this.zoomTo(this.zoom * (what === "in" ? 1.5 : 1 / 1.5));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    const zooms = { "+": "in", "=": "in", "-": "out", "0": "fit" };
    if (moves[event.key] && this.zoom > 1) this.move(...moves[event.key]);
    else if (zooms[event.key]) this.press(zooms[event.key]);
    else if (event.key.toLowerCase() === "h") {
      this.heat.checked = !this.heat.checked;
      this.show();
    } else return;
    event.preventDefault();
  }

  wheel(event) {
    if (!event.ctrlKey && this.zoom === 1) return; // the page scrolls
    event.preventDefault();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 400), ...this.place(event));
  }

  grab(event) {
    if (this.zoom === 1 || event.button) return;
    this.viewport.setPointerCapture(event.pointerId);
    const box = this.viewport.getBoundingClientRect();
    const drag = (moved) => this.move(moved.movementX / box.width, moved.movementY / box.height);
    this.viewport.addEventListener("pointermove", drag);
    const drop = () => this.viewport.removeEventListener("pointermove", drag);
    for (const end of ["pointerup", "pointercancel"]) this.viewport.addEventListener(end, drop, { once: true });
  }
}
const viewers = new Map([...document.querySelectorAll(".viewer")].map((root) => [root, new Viewer(root)]));

// The cohort's pictures: shown large in a dialog, and all heat maps switched at once.
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll(".thumb")) {
  button.addEventListener("click", () => {
    const viewer = viewers.get(dialog.querySelector(".viewer"));
    const stack = button.querySelector(".stack");
    viewer.viewport.style.cssText = stack.style.cssText;
    Object.assign(viewer.scale.dataset, stack.dataset);
    viewer.stage.replaceChildren(...[...stack.querySelectorAll("img")].map((image) => image.cloneNode()));
    dialog.querySelector("h2").textContent = button.dataset.slide;
    dialog.querySelector("a").href = button.dataset.page;
    viewer.fit();
    dialog.showModal();
  });
}
document.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
const all = document.querySelector("[data-all-heat]");
if (all) all.closest(".controls").hidden = false;
all?.addEventListener("change", () => document.querySelector("table.slides").classList.toggle("no-heat", !all.checked));

// On paper remarks and settings are unfolded; the plots stand without their numbers.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details.unfold:not([open])")];
  folded.forEach((details) => (details.open = true));
});
addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));
