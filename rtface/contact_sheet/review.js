var base = JSON.parse(document.getElementById("treatment").textContent), save = document.getElementById("save");
function decisions() {
  return [...document.querySelectorAll("section")].flatMap(function (row) {
    var chosen = row.querySelector("input[type=radio]:checked");
    return chosen ? [Object.assign(JSON.parse(row.dataset.place), {strength: Number(chosen.value)})] : [];
  });
}
function count() {
  var known = decisions();
  save.disabled = !known.length;
  document.getElementById("decided").textContent = known.length
    ? known.length + " of " + document.querySelectorAll("section").length + " places are decided."
    : "Nothing is decided yet.";
}
document.querySelectorAll("section").forEach(function (row) {
  var after = row.querySelector(".after"), name = row.querySelector(".right");
  row.querySelectorAll("input[type=radio]").forEach(function (radio) {
    function choose() {
      after.style.opacity = radio.dataset.shown;
      name.textContent = radio.dataset.name;
    }
    if (radio.checked) { choose(); }  // a browser that reloads the page may remember a choice
    radio.addEventListener("change", function () {
      choose();
      count();
    });
  });
});
count();
save.addEventListener("click", function () {
  var made = Object.assign({}, base, {reviewed: (base.reviewed || []).concat(decisions())});
  var link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(made, null, 2) + "\n"], {type: "application/json"}));
  link.download = save.dataset.name;
  link.click();
  URL.revokeObjectURL(link.href);
});
