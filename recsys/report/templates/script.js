
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const createElement = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) key === "class" ? element.className = value : element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const productImage = (index, kind = "") => {
    const [title, , , hasImage] = data.products[index];
    const element = createElement("span", { class: `pic ${kind} ${hasImage ? "p" + index : "none"}`, "aria-hidden": "true" });
    if (!hasImage) element.append([...title][0] || "·");
    return element;
  };

  // Theme: the system setting applies until the reader chooses one.
  const button = document.getElementById("theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const storedTheme = (value) => {
    try { return value === undefined ? localStorage.getItem("theme") : localStorage.setItem("theme", value); } catch { return null; }
  };
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
  const updateButton = () => { button.lastElementChild.textContent = isDark() ? "Light" : "Dark"; };
  if (["light", "dark"].includes(storedTheme())) root.dataset.theme = storedTheme();
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; storedTheme(root.dataset.theme); updateButton(); });
  systemDark.addEventListener("change", updateButton);
  updateButton();

  // Navigation: highlight the section in view.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => observer.observe(section));

  // Map of products.
  const map = document.getElementById("map");
  if (map) {
    const tip = document.getElementById("tip");
    const dots = [...map.querySelectorAll(".dots circle")];
    const positions = dots.map((dot) => [parseFloat(dot.getAttribute("cx")), parseFloat(dot.getAttribute("cy"))]);
    let current = -1;
    const show = (index) => {
      if (current >= 0) dots[current].classList.remove("focused");
      current = index;
      tip.hidden = index < 0;
      if (index < 0) return;
      const dot = dots[index];
      dot.classList.add("focused");
      const [title, about] = data.products[dot.dataset.product];
      tip.replaceChildren(productImage(dot.dataset.product), createElement("span", {}, createElement("strong", {}, title),
        createElement("span", { class: "muted" }, about), createElement("span", { class: "muted" }, data.clusters[dot.dataset.cluster] ?? "")));
      const [x, y] = positions[index].map((percent, side) => percent / 100 * (side ? map.clientHeight : map.clientWidth));
      const left = x + 16 + tip.offsetWidth > map.clientWidth ? x - 16 - tip.offsetWidth : x + 16;
      const top = Math.min(Math.max(y - tip.offsetHeight / 2, 6), map.clientHeight - tip.offsetHeight - 6);
      tip.style.transform = `translate(${Math.max(4, left)}px, ${top}px)`;
    };
    const nearest = (x, y, accepts) => {
      let best = -1, leastSquare = Infinity;
      positions.forEach(([left, top], index) => {
        if (!accepts(left - x, top - y, index)) return;
        const square = ((left - x) * map.clientWidth) ** 2 + ((top - y) * map.clientHeight) ** 2;
        if (square < leastSquare) [best, leastSquare] = [index, square];
      });
      return [best, Math.sqrt(leastSquare) / 100];
    };
    const isActive = (index) => !map.classList.contains("filtered") || dots[index].classList.contains("active");
    map.addEventListener("pointermove", (event) => {
      const box = map.getBoundingClientRect();
      const [index, distance] = nearest((event.clientX - box.left) / box.width * 100, (event.clientY - box.top) / box.height * 100, (dx, dy, candidate) => isActive(candidate));
      show(distance < 26 ? index : -1);
    });
    map.addEventListener("pointerleave", () => show(-1));
    map.addEventListener("keydown", (event) => {
      const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") show(-1);
      if (!direction || !dots.length) return;
      event.preventDefault();
      const [x, y] = current < 0 ? [50, 50] : positions[current];
      const isAhead = (dx, dy) => { const along = dx * direction[0] + dy * direction[1]; return along > 0.01 && Math.abs(dx * direction[1] + dy * direction[0]) <= along; };
      const [index] = nearest(x, y, (dx, dy, candidate) => isActive(candidate) && (current < 0 || (candidate !== current && isAhead(dx, dy))));
      if (index >= 0) show(index);
    });
    map.addEventListener("blur", () => show(-1));
    document.querySelectorAll(".on-map").forEach((button, _, buttons) => {
      button.hidden = false;
      button.addEventListener("click", () => {
        const pressed = button.getAttribute("aria-pressed") !== "true";
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button && pressed)));
        map.classList.toggle("filtered", pressed);
        dots.forEach((dot) => dot.classList.toggle("active", pressed && dot.dataset.cluster === button.dataset.cluster));
        show(-1);
        if (pressed) map.scrollIntoView({ block: "center" });
      });
    });
  }

  // Explorer of similar products.
  const explorer = document.getElementById("explore");
  if (explorer) {
    explorer.hidden = false;
    const list = document.getElementById("product-list"), selection = document.getElementById("selection");
    const matchCount = document.getElementById("match-count"), search = document.getElementById("title-search");
    const buttons = [...list.children];
    const visibleButtons = () => buttons.filter((button) => !button.hidden);
    const setTabStop = (target) => { buttons.forEach((button) => { button.tabIndex = button === target ? 0 : -1; }); };
    const caption = (index) => [createElement("span", { class: "name" }, data.products[index][0])];
    const scoreBar = (score) => {
      const bar = createElement("span");
      bar.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
      return createElement("span", { class: "like", "aria-hidden": "true" }, bar);
    };
    const select = (index, { focus = false } = {}) => {
      const [, about, id] = data.products[index];
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.product === String(index))));
      const selected = buttons.find((button) => button.dataset.product === String(index));
      if (selected) setTabStop(selected);
      const neighbours = createElement("div", { class: "near" });
      for (const [neighbour, score] of data.neighbours[index]) {
        const children = [productImage(neighbour), ...caption(neighbour), scoreBar(score), createElement("span", { class: "muted" }, `cosine ${score.toFixed(2)}`)];
        if (data.neighbours[neighbour]) {
          const button = createElement("button", { type: "button", "data-product": String(neighbour) }, ...children);
          button.addEventListener("click", () => select(neighbour, { focus: true }));
          neighbours.append(button);
        } else neighbours.append(createElement("div", {}, ...children));
      }
      const name = createElement("h3", { class: "name", tabindex: "-1" }, data.products[index][0]);
      selection.replaceChildren(createElement("div", { class: "chosen" }, productImage(index),
        createElement("div", {}, name, createElement("span", { class: "muted" }, about ? `${about} · ${id}` : id))), neighbours);
      if (focus) name.focus({ preventScroll: true });
    };
    list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) select(Number(button.dataset.product));
    });
    list.addEventListener("keydown", (event) => {
      const visible = visibleButtons(), index = visible.indexOf(document.activeElement);
      if (index < 0) return;
      const columns = Math.max(1, visible.filter((button) => button.offsetTop === visible[0].offsetTop).length);
      const target = { ArrowRight: index + 1, ArrowLeft: index - 1, ArrowDown: index + columns, ArrowUp: index - columns, Home: 0, End: visible.length - 1 }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      const button = visible[Math.min(Math.max(target, 0), visible.length - 1)];
      setTabStop(button);
      button.focus();
    });
    search.addEventListener("input", () => {
      const query = search.value.trim().toLowerCase();
      buttons.forEach((button) => { button.hidden = !data.products[button.dataset.product][0].toLowerCase().includes(query); });
      const visible = visibleButtons();
      matchCount.textContent = query ? `${visible.length} of ${buttons.length}` : "";
      if (visible.length && !visible.some((button) => button.tabIndex === 0)) setTabStop(visible[0]);
    });
    select(Number(buttons[0].dataset.product));
  }
})();
