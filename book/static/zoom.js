// A figure opens in full width by click, Enter or space, and closes by click, Enter or Escape.
const box = document.createElement("dialog");
box.className = "zoomed";
box.setAttribute("aria-label", "The figure, enlarged");
document.body.append(box);
box.addEventListener("click", () => box.close());
box.addEventListener("keydown", (event) => event.key === "Enter" && box.close());
for (const figure of document.querySelectorAll(".bd-article img")) {
  const open = (event) => {
    if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    box.replaceChildren(Object.assign(new Image(), { src: figure.src, alt: figure.alt }));
    box.showModal();
  };
  Object.assign(figure, { tabIndex: 0, role: "button", onclick: open, onkeydown: open });
}
