/* The page: its theme, its tabs, its buttons. */
"use strict";
(() => {
  const root = document.documentElement, wantsDark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null;
  const apply = () => {
    root.dataset.theme = chosen || (wantsDark.matches ? "dark" : "light");
    button.textContent = root.dataset.theme === "dark" ? "light" : "dark";
    Charts.redraw();
  };
  button.addEventListener("click", () => { chosen = root.dataset.theme === "dark" ? "light" : "dark"; apply(); });
  wantsDark.addEventListener("change", apply);
  apply();

  const tabs = document.querySelectorAll("[data-level]");
  const open = (level) => {
    document.querySelectorAll("main").forEach((main) => { main.hidden = main.id !== level; });
    tabs.forEach((tab) => tab.toggleAttribute("aria-current", tab.dataset.level === level));
  };
  tabs.forEach((tab) => tab.addEventListener("click", () => { open(tab.dataset.level); scrollTo(0, 0); }));
  if (tabs.length) open(tabs[0].dataset.level);

  document.querySelectorAll(".copy").forEach((copy) => copy.addEventListener("click", () => {
    const text = copy.parentElement.querySelector("pre").textContent;
    navigator.clipboard?.writeText(text).then(() => { copy.textContent = "copied"; }, () => {});
  }));
  Charts.drawAll();
  root.dataset.ready = "";
})();
