// Keeps the dashboard up to date. The page works without it.
//
// The server reports changes (/live, server-sent events): running streams and members of groups as rendered HTML, and the number of records, whereupon
// the script reads the page again and replaces its parts. Reading takes a small share of the time at most. Links with `data-swap` change parts of the
// page without leaving it; the columns of the chart are walked through with the arrow keys, and a selection of them is a time to show.
"use strict";

(() => {
  const state = document.getElementById("state");
  const pause = document.getElementById("pause");
  const parts = Object.fromEntries(["tile", "running", "members"].map((name) => [name, document.querySelector(`[data-live="${name}"]`)]));
  const kept = (page) => page.getElementById("content").dataset.kept; // the number of records when it was read
  let has = kept(document);
  let told = 0; // the number of records now
  const LEAST_PAUSE = 2000; // the shortest pause between two readings, in ms
  const TIMES_AS_LONG = 10; // a pause is this many times as long as the last reading
  const UNTOLD = 30000; // the time in ms after which the page is read again without a report
  let source = null;
  let paused = false;
  let reading = false;
  let wanted = false;
  let next = 0;
  let timer = 0;

  function say(text, kind) {
    if (state.textContent !== text) state.textContent = text;
    document.body.dataset.state = kind;
  }

  // Replaces the children if they differ; keeps the unfolded, scrolled and focused parts.
  function replace(old, fresh) {
    if (old.innerHTML === fresh.innerHTML) return;
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((each) => each.id));
    const scrolled = [...old.querySelectorAll(".scroll[id]")].map((each) => [each.id, each.scrollLeft]);
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") && `a[href="${CSS.escape(focused.getAttribute("href"))}"]`);
    const box = focused && focused.closest("[id]");
    old.replaceChildren(...fresh.childNodes);
    for (const id of open) old.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
    for (const [id, left] of scrolled) {
      const again = old.querySelector(`#${CSS.escape(id)}`);
      if (again) again.scrollLeft = left;
    }
    if (focused) {
      const around = (box && old.querySelector(`#${CSS.escape(box.id)}`)) || old;
      const again = (key && (around.querySelector(key) || old.querySelector(key))) || around.querySelector("summary, a, .scroll");
      again?.focus({ preventScroll: true });
    }
  }

  function parse(html) {
    return new DOMParser().parseFromString(html, "text/html");
  }

  // The columns of the chart: one of them is reached by Tab, the others by arrow keys.
  function walkable() {
    for (const hits of document.querySelectorAll(".hits")) {
      const all = [...hits.querySelectorAll(".hit[href]")];
      const present = all.find((hit) => hit === document.activeElement) ?? all.at(-1);
      for (const hit of all) hit.tabIndex = hit === present ? 0 : -1;
    }
  }

  // Content that is too wide can be focused and scrolled with the keyboard.
  function reachable() {
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
    walkable();
  }

  // Shows another state of this page, with the links of `data-nav` that lead on from it. What cannot be read is left to the browser.
  async function go(url, adds) {
    try {
      const response = await fetch(url, { headers: { accept: "text/html" }, cache: "no-store" });
      if (!response.ok) return location.assign(url);
      const fresh = parse(await response.text());
      for (const old of document.querySelectorAll("[data-part], [data-nav]")) {
        const part = fresh.getElementById(old.id);
        if (part) replace(old, part);
      }
      if (adds) history.pushState(null, "", url);
      reachable();
      has = kept(fresh) ?? has;
    } catch {
      location.assign(url);
    }
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-swap]");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(link.href.split("#")[0], true);
  });
  addEventListener("popstate", () => location.reload());

  document.addEventListener("keydown", (event) => {
    const hit = event.target.closest?.(".hit");
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!hit || !by) return;
    const all = [...hit.parentElement.querySelectorAll(".hit[href]")];
    const next = all[Math.min(Math.max(all.indexOf(hit) + by, 0), all.length - 1)];
    event.preventDefault();
    next.focus({ preventScroll: true });
    walkable();
  });

  // The first touch of a column shows its numbers, the second follows its link.
  let touched = null;
  let drag = null;
  document.addEventListener("pointerdown", (event) => {
    const hit = event.target.closest?.(".hit[href]");
    if (!hit) return (touched = null);
    if (event.pointerType === "mouse" && event.button === 0) drag = { hits: hit.parentElement, from: hit, to: hit };
    if (event.pointerType !== "mouse") {
      hit.dataset.first = hit === touched ? "" : "1";
      touched = hit;
    }
  });
  document.addEventListener("pointermove", (event) => {
    const hit = drag && document.elementFromPoint(event.clientX, event.clientY)?.closest(".hit[href]");
    if (!hit || hit.parentElement !== drag.hits) return;
    drag.to = hit;
    const [first, last] = chosen();
    [...drag.hits.children].forEach((each, index) => each.classList.toggle("chosen", first !== last && index >= first && index <= last));
  });
  function chosen() {
    const all = [...drag.hits.children];
    return [all.indexOf(drag.from), all.indexOf(drag.to)].sort((one, other) => one - other);
  }
  document.addEventListener("pointerup", () => {
    if (!drag) return;
    const [first, last] = chosen();
    const all = drag.hits.children;
    if (first !== last) {
      const url = new URL(location.href);
      url.searchParams.set("range", "custom");
      url.searchParams.set("since", all[first].dataset.since);
      url.searchParams.set("until", all[last].dataset.until);
      url.searchParams.delete("page");
      url.hash = "";
      location.assign(url);
    }
    drag = first === last ? null : { done: true, hits: drag.hits, from: drag.from, to: drag.to };
  });
  document.addEventListener("click", (event) => {
    const hit = event.target.closest?.(".hit");
    if (hit?.dataset.first === "1" || (hit && drag?.done)) event.preventDefault();
    drag = null;
  });
  document.addEventListener("dragstart", (event) => event.target.closest?.(".hit") && event.preventDefault());

  // Open menus close by Escape, and by a click elsewhere.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll(".menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });

  async function read() {
    if (paused || reading) {
      wanted ||= reading;
      return;
    }
    reading = true;
    wanted = false;
    const begun = performance.now();
    document.body.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      if (response.status === 401) return location.reload();
      const fresh = parse(await response.text());
      for (const old of document.querySelectorAll("[data-part]")) {
        const part = fresh.getElementById(old.id);
        if (part && !paused) replace(old, part);
      }
      reachable();
      has = kept(fresh) ?? has;
      // The server may have kept this page from an earlier reading.
      wanted ||= Number(has) < told;
      say(response.ok ? "Live" : "The numbers cannot be read; trying again", response.ok ? "live" : "failed");
    } catch {
      say("The proxy does not respond; trying again", "failed");
    } finally {
      reading = false;
      document.body.removeAttribute("aria-busy");
      const took = performance.now() - begun;
      next = performance.now() + Math.max(LEAST_PAUSE, TIMES_AS_LONG * took);
      schedule(wanted ? 0 : UNTOLD);
    }
  }

  function schedule(soon) {
    clearTimeout(timer);
    timer = setTimeout(read, Math.max(soon, next - performance.now()));
  }

  function watch() {
    const query = new URLSearchParams(location.search);
    if (has !== undefined) query.set("kept", has);
    source = new EventSource(`live?${query}`);
    source.onopen = () => say("Live", "live");
    for (const [name, part] of Object.entries(parts)) {
      source.addEventListener(name, (event) => {
        const fresh = parse(event.data).body;
        if (!paused) {
          replace(part, fresh);
          if (name === "members") part.hidden = part.childElementCount === 0;
        }
        reachable();
      });
    }
    source.addEventListener("records", (event) => {
      told = Number(event.data);
      if (reading) wanted = true;
      else schedule(0);
    });
    source.onerror = () => {
      say("The connection is lost; trying again", "failed");
      // An HTTP error ends the events for good; a broken connection does not.
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => paused || (source.close(), watch()), 10000);
        schedule(0);
      }
    };
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume updates" : "Pause updates";
    clearTimeout(timer);
    source.close();
    if (paused) {
      say("Paused", "paused");
    } else {
      watch();
      schedule(0);
    }
  });
  addEventListener("resize", reachable);
  // A hidden page requests nothing.
  document.addEventListener("visibilitychange", () => {
    if (paused) return;
    clearTimeout(timer);
    source.close();
    if (!document.hidden) {
      watch();
      schedule(0);
    }
  });
  reachable();
  watch();
  schedule(UNTOLD);
})();
