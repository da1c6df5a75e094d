document.querySelectorAll("section").forEach(function (row) {
  var name = row.querySelector(".right"), afters = row.querySelectorAll(".after");
  row.querySelectorAll("input[type=radio]").forEach(function (radio, number) {
    function choose() {
      afters.forEach(function (image, other) { image.hidden = other !== number; });
      name.textContent = radio.dataset.name;
    }
    if (radio.checked) { choose(); }  // a browser that reloads the page may remember another choice
    radio.addEventListener("change", function () {
      choose();
      show(radio.dataset.command);
    });
  });
});
