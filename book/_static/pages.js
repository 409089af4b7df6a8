"use strict";

// The sidebar is a landmark, so that nothing on a page lies outside of one.

document.addEventListener("DOMContentLoaded", () => {
  const sidebar = document.querySelector(".bd-sidebar-primary");
  sidebar?.setAttribute("role", "region");
  sidebar?.setAttribute("aria-label", "Contents of the book");
});

// A figure is a link to itself, so that a click or the Enter key shows it in full size.

document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll(".bd-article figure img, .bd-article .cell_output img")) {
    if (image.closest("a")) continue;
    const link = document.createElement("a");
    link.href = image.src;
    link.title = "Show in full size";
    image.replaceWith(link);
    link.append(image);
  }
});
