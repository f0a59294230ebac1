// Wide tables scroll inside the page: a keyboard must reach them.
document$.subscribe(() => {
  for (const part of document.querySelectorAll(".md-typeset__scrollwrap")) part.tabIndex = 0;
});
