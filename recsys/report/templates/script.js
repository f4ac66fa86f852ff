
"use strict";
(() => {
  const told = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const make = (name, set = {}, ...inside) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(set)) key === "class" ? made.className = value : made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  const picture = (at, kind = "") => {
    const [title, , , there] = told.products[at];
    const made = make("span", { class: `pic ${kind} ${there ? "p" + at : "none"}`, "aria-hidden": "true" });
    if (!there) made.append([...title][0] || "·");
    return made;
  };

  // Light and dark: what the system says until somebody chooses.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = (value) => {
    try { return value === undefined ? localStorage.getItem("theme") : localStorage.setItem("theme", value); } catch { return null; }
  };
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const told_theme = () => { button.lastElementChild.textContent = dark() ? "Light" : "Dark"; };
  if (["light", "dark"].includes(kept())) root.dataset.theme = kept();
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; kept(root.dataset.theme); told_theme(); });
  system.addEventListener("change", told_theme);
  told_theme();

  // The section that is being read.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => seen.observe(section));

  // The map.
  const map = document.getElementById("map");
  if (map) {
    const tip = document.getElementById("tip");
    const dots = [...map.querySelectorAll(".dots circle")];
    const places = dots.map((dot) => [parseFloat(dot.getAttribute("cx")), parseFloat(dot.getAttribute("cy"))]);
    let here = -1;
    const show = (at) => {
      if (here >= 0) dots[here].classList.remove("here");
      here = at;
      tip.hidden = at < 0;
      if (at < 0) return;
      const dot = dots[at];
      dot.classList.add("here");
      const [title, about] = told.products[dot.dataset.p];
      tip.replaceChildren(picture(dot.dataset.p), make("span", {}, make("strong", {}, title),
        make("span", { class: "muted" }, about), make("span", { class: "muted" }, told.groups[dot.dataset.g] ?? "")));
      const [x, y] = places[at].map((part, side) => part / 100 * (side ? map.clientHeight : map.clientWidth));
      const left = x + 16 + tip.offsetWidth > map.clientWidth ? x - 16 - tip.offsetWidth : x + 16;
      const top = Math.min(Math.max(y - tip.offsetHeight / 2, 6), map.clientHeight - tip.offsetHeight - 6);
      tip.style.transform = `translate(${Math.max(4, left)}px, ${top}px)`;
    };
    const nearest = (x, y, fits) => {
      let best = -1, least = Infinity;
      places.forEach(([left, top], at) => {
        if (!fits(left - x, top - y, at)) return;
        const far = ((left - x) * map.clientWidth) ** 2 + ((top - y) * map.clientHeight) ** 2;
        if (far < least) [best, least] = [at, far];
      });
      return [best, Math.sqrt(least) / 100];
    };
    const lit = (at) => !map.classList.contains("some") || dots[at].classList.contains("on");
    map.addEventListener("pointermove", (event) => {
      const box = map.getBoundingClientRect();
      const [at, far] = nearest((event.clientX - box.left) / box.width * 100, (event.clientY - box.top) / box.height * 100, (x, y, one) => lit(one));
      show(far < 26 ? at : -1);
    });
    map.addEventListener("pointerleave", () => show(-1));
    map.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") show(-1);
      if (!way || !dots.length) return;
      event.preventDefault();
      const [x, y] = here < 0 ? [50, 50] : places[here];
      const ahead = (dx, dy) => { const along = dx * way[0] + dy * way[1]; return along > 0.01 && Math.abs(dx * way[1] + dy * way[0]) <= along; };
      const [at] = nearest(x, y, (dx, dy, one) => lit(one) && (here < 0 || (one !== here && ahead(dx, dy))));
      if (at >= 0) show(at);
    });
    map.addEventListener("blur", () => show(-1));
    document.querySelectorAll(".on-map").forEach((one, _, all) => {
      one.hidden = false;
      one.addEventListener("click", () => {
        const on = one.getAttribute("aria-pressed") !== "true";
        all.forEach((other) => other.setAttribute("aria-pressed", String(other === one && on)));
        map.classList.toggle("some", on);
        dots.forEach((dot) => dot.classList.toggle("on", on && dot.dataset.g === one.dataset.g));
        show(-1);
        if (on) map.scrollIntoView({ block: "center" });
      });
    });
  }

  // The explorer.
  const explorer = document.getElementById("explore");
  if (explorer) {
    explorer.hidden = false;
    const shelf = document.getElementById("shelf"), shown = document.getElementById("shown");
    const found = document.getElementById("found"), find = document.getElementById("find");
    const all = [...shelf.children];
    const open = () => all.filter((one) => !one.hidden);
    const reach = (one) => { all.forEach((other) => { other.tabIndex = other === one ? 0 : -1; }); };
    const caption = (at) => [make("span", { class: "name" }, told.products[at][0])];
    const bar = (score) => {
      const line = make("span");
      line.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
      return make("span", { class: "like", "aria-hidden": "true" }, line);
    };
    const choose = (at, { focus = false } = {}) => {
      const [, about, id] = told.products[at];
      all.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.p === String(at))));
      const own = all.find((one) => one.dataset.p === String(at));
      if (own) reach(own);
      const near = make("div", { class: "near" });
      for (const [other, score] of told.near[at]) {
        const inside = [picture(other), ...caption(other), bar(score), make("span", { class: "muted" }, `cosine ${score.toFixed(2)}`)];
        if (told.near[other]) {
          const one = make("button", { type: "button", "data-p": String(other) }, ...inside);
          one.addEventListener("click", () => choose(other, { focus: true }));
          near.append(one);
        } else near.append(make("div", {}, ...inside));
      }
      const name = make("h3", { class: "name", tabindex: "-1" }, told.products[at][0]);
      shown.replaceChildren(make("div", { class: "chosen" }, picture(at),
        make("div", {}, name, make("span", { class: "muted" }, about ? `${about} · ${id}` : id))), near);
      if (focus) name.focus({ preventScroll: true });
    };
    shelf.addEventListener("click", (event) => {
      const one = event.target.closest("button");
      if (one) choose(Number(one.dataset.p));
    });
    shelf.addEventListener("keydown", (event) => {
      const some = open(), at = some.indexOf(document.activeElement);
      if (at < 0) return;
      const wide = Math.max(1, some.filter((one) => one.offsetTop === some[0].offsetTop).length);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + wide, ArrowUp: at - wide, Home: 0, End: some.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const one = some[Math.min(Math.max(to, 0), some.length - 1)];
      reach(one);
      one.focus();
    });
    find.addEventListener("input", () => {
      const wanted = find.value.trim().toLowerCase();
      all.forEach((one) => { one.hidden = !told.products[one.dataset.p][0].toLowerCase().includes(wanted); });
      const some = open();
      found.textContent = wanted ? `${some.length} of ${all.length}` : "";
      if (some.length && !some.some((one) => one.tabIndex === 0)) reach(some[0]);
    });
    choose(Number(all[0].dataset.p));
  }
})();
