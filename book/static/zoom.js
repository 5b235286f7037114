// A figure opens in full width by click, Enter or space, and closes by click, Enter or Escape.
const box = document.createElement("dialog");
box.className = "zoomed";
box.setAttribute("aria-label", "The figure, enlarged");
document.body.append(box);
box.addEventListener("click", () => box.close());
box.addEventListener("keydown", (event) => ["Enter", "Escape"].includes(event.key) && box.close());
for (const figure of document.querySelectorAll(".bd-article img")) {
  const open = (event) => {
    if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const shown = Object.assign(new Image(), { src: figure.src, alt: figure.alt, tabIndex: 0 });
    box.replaceChildren(shown);
    box.showModal();
    shown.focus();
  };
  Object.assign(figure, { tabIndex: 0, role: "button", onclick: open, onkeydown: open });
}
