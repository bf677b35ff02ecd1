"""Operations with gradients written out by hand, each beside its plain formula."""
