"use strict";

// Buttons above the claims: one for each outcome, with its count, that shows its claims alone.

function outcomeOf(card) {
  return card.querySelector("summary").textContent.trim().split(" · ")[0];
}

function buttonIn(box, words, show) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn btn-sm";
  button.textContent = words;
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    for (const other of box.children) other.setAttribute("aria-pressed", String(other === button));
    show();
  });
  box.append(button);
  return button;
}

document.addEventListener("DOMContentLoaded", () => {
  const cards = [...document.querySelectorAll("details.claim")];
  if (!cards.length) return;
  const box = document.createElement("p");
  box.className = "claim-filters";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Claims by outcome");
  const only = (outcome) => {
    for (const card of cards) card.hidden = outcome !== undefined && outcomeOf(card) !== outcome;
  };
  buttonIn(box, `All (${cards.length})`, () => only()).setAttribute("aria-pressed", "true");
  for (const outcome of new Set(cards.map(outcomeOf))) {
    const count = cards.filter((card) => outcomeOf(card) === outcome).length;
    buttonIn(box, `${outcome} (${count})`, () => only(outcome));
  }
  cards[0].before(box);
});
